package lint

import (
	"strconv"
	"strings"
	"testing"
)

func itoa(n int) string { return strconv.Itoa(n) }

// An arrow that must not exist: no file of a room in from imports a room in
// to. Tests may cross it where noTests is set: then they play another room.
type forbidden struct {
	from, to []string
	noTests  bool
	why      string
}

// ours is every room of this module.
var ours = []string{""}

// brokerRooms are what a broker is made of; who sees brokers only from
// outside imports none of them.
var brokerRooms = []string{
	"broker", "queue", "log", "replicate", "elect",
	"internal/topology", "internal/backbone", "internal/admin", "internal/entry",
}

var arrows = []forbidden{
	{[]string{"internal/entry"}, ours, false, "entry is below all"},
	{[]string{"internal/amqp"}, ours, true, "amqp is a codec and knows no broker"},
	{[]string{"queue"}, []string{"log", "replicate", "elect"}, true, "the broker joins them"},
	{[]string{"log"}, []string{"queue", "replicate", "elect"}, true, "the broker joins them"},
	{[]string{"replicate"}, []string{"queue", "log", "elect"}, true, "the broker joins them"},
	{[]string{"elect"}, []string{"queue", "log", "replicate"}, true, "the broker joins them"},
	{
		[]string{"queue", "log", "replicate", "elect", "internal"}, []string{"broker", "cli", "client", "bench"}, true,
		"arrows go down only",
	},
	{[]string{"broker"}, []string{"cli", "client", "bench"}, true, "arrows go down only"},
	{[]string{"bench", "client"}, brokerRooms, false, "they see the broker only through AMQP and HTTP"},
	{[]string{"queue", "internal/topology"}, []string{"log", "replicate", "internal/backbone"}, true, "pure state machines do no I/O"},
}

// harness are rooms that drive whole brokers from above, and so are no part
// of what lies below the broker.
var harness = []string{"internal/crashtest", "internal/testcluster", "internal/sim", "internal/lint"}

// embedders run a broker inside them for users of the SDK to test against; all
// else of client sees it from outside.
var embedders = []string{"client/mirrormqtest"}

// pure rooms have no I/O, clock, randomness or goroutine of their own.
var pure = map[string][]string{
	"queue":             {"net", "os", "net/http", "math/rand", "math/rand/v2", "crypto/rand", "log/slog"},
	"elect":             {"net", "os", "net/http", "math/rand", "math/rand/v2", "crypto/rand", "log/slog"},
	"internal/topology": {"net", "os", "net/http", "math/rand", "math/rand/v2", "log/slog"},
	"internal/entry":    {"net", "os", "net/http", "math/rand", "math/rand/v2", "crypto/rand", "log/slog"},
}

func TestImportArrowsGoDownOnly(t *testing.T) {
	for _, s := range sources(t) {
		for _, spec := range s.file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			checkPure(t, s, imported)
			target, own := strings.CutPrefix(imported, module+"/")
			if !own || target == s.room {
				continue
			}
			for _, arrow := range arrows {
				if arrow.noTests && s.test || within(s.room, harness...) {
					continue
				}
				if within(s.room, embedders...) && target == "broker" {
					continue
				}
				if within(s.room, arrow.from...) && (arrow.to[0] == "" || within(target, arrow.to...)) {
					t.Errorf("%s: %s must not import %s: %s", s.position(spec), s.room, target, arrow.why)
				}
			}
		}
	}
}

func checkPure(t *testing.T, s source, imported string) {
	t.Helper()
	if s.test {
		return
	}
	for _, banned := range pure[s.room] {
		if imported == banned {
			t.Errorf("%s imports %s: %s is pure (no I/O, clock, randomness)", s.path, imported, s.room)
		}
	}
	if imported == "testing" && !within(s.room, harness...) {
		t.Errorf("%s: production code imports testing", s.path)
	}
}

// Tests of the rule's own reading of paths.
func TestARoomContainsWhatLiesBelowIt(t *testing.T) {
	cases := []struct {
		room string
		in   []string
		want bool
	}{
		{"queue", []string{"queue"}, true},
		{"queue/model", []string{"log", "queue"}, true},
		{"queues", []string{"queue"}, false},
		{"internal/amqp/gen", []string{"internal/amqp"}, true},
	}
	for _, c := range cases {
		if got := within(c.room, c.in...); got != c.want {
			t.Errorf("within(%q, %q) = %t", c.room, c.in, got)
		}
	}
}
