package crashtest

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mirrormq/mirrormq/internal/freeport"
)

var (
	rounds = flag.Int("rounds", 4, "how often the broker is killed")
	seed   = flag.Uint64("seed", 0, "seed of the kill times and damages; 0 draws one")
)

const publishers = 3

// TestNothingConfirmedIsLostAcrossKills is the promise of the package comment.
func TestNothingConfirmedIsLostAcrossKills(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("skipped: the damage that a crash leaves is made through Linux paths")
	}
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("seed %d, %d rounds", *seed, *rounds)
	random := rand.New(rand.NewPCG(*seed, 1))
	binary := build(t)
	data := t.TempDir()
	l := newLedger()
	next := make([]uint64, publishers)
	for p := range next {
		next[p] = 1
	}
	for round := range *rounds {
		b := startBroker(t, binary, data)
		life := time.Duration(100+random.IntN(900)) * time.Millisecond
		ctx, stop := context.WithCancel(context.Background())
		var clients sync.WaitGroup
		for p := range next {
			sizes := rand.New(rand.NewPCG(*seed, uint64(round*publishers+p)))
			clients.Go(func() {
				next[p] = publish(ctx, b.url, l, uint32(p), next[p], func() int { return 12 + sizes.IntN(2000) })
			})
		}
		clients.Go(func() { _ = consume(ctx, b.url, l, 0) })
		select {
		case <-time.After(life):
		case <-b.exited:
			t.Fatalf("round %d: the broker ended by itself:\n%s", round, b.output.String())
		}
		b.kill(t)
		stop()
		clients.Wait()
		how := damage(t, random, filepath.Join(data))
		if _, _, _, problems := l.report(); len(problems) > 0 {
			t.Fatalf("round %d (%s):\n%s", round, how, strings.Join(problems, "\n"))
		}
	}
	b := startBroker(t, binary, data)
	defer b.kill(t)
	if err := consume(context.Background(), b.url, l, 2*time.Second); err != nil {
		t.Fatalf("draining: %v\n%s", err, b.output.String())
	}
	confirmed, delivered, settled, problems := l.report()
	t.Logf("%d confirmed, %d delivered, %d with a synced ack", confirmed, delivered, settled)
	if len(problems) > 0 {
		t.Fatal(strings.Join(problems, "\n"))
	}
	if lost := l.lost(); len(lost) > 0 {
		t.Fatalf("%d confirmed messages are lost, among them %v", len(lost), lost[0])
	}
	if confirmed == 0 || settled == 0 {
		t.Fatal("nothing was confirmed or settled: the test tested nothing")
	}
}

func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "mirrormq")
	out, err := exec.Command("go", "build", "-o", binary, "../../cli").CombinedOutput()
	if err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

type broker struct {
	command *exec.Cmd
	output  *bytes.Buffer
	url     string
	exited  chan struct{}
}

// startBroker returns when the broker is ready.
func startBroker(t *testing.T, binary, data string) *broker {
	t.Helper()
	addresses, err := freeport.Addresses(2)
	if err != nil {
		t.Fatal(err)
	}
	amqp, web := addresses[0], addresses[1]
	b := &broker{output: &bytes.Buffer{}, exited: make(chan struct{}), url: fmt.Sprintf("amqp://guest:guest@%s/", amqp)}
	b.command = exec.Command(binary, "serve", "--name", "crash", "--data", data, "--amqp", amqp, "--http", web)
	b.command.Stdout, b.command.Stderr = b.output, b.output
	if err := b.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = b.command.Wait()
		close(b.exited)
	}()
	t.Cleanup(func() { b.kill(t) })
	deadline := time.After(20 * time.Second)
	for {
		if response, err := http.Get("http://" + web + "/readyz"); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return b
			}
		}
		select {
		case <-b.exited:
			t.Fatalf("the broker did not start:\n%s", b.output.String())
		case <-deadline:
			t.Fatalf("the broker is not ready after 20 s:\n%s", b.output.String())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// kill ends the broker with SIGKILL and waits for its end.
func (b *broker) kill(t *testing.T) {
	t.Helper()
	select {
	case <-b.exited:
		return
	default:
	}
	if err := b.command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-b.exited
}

// damage leaves after the log's last byte what a power failure may leave there:
// nothing, the half of a record, zeros or garbage. It returns which.
func damage(t *testing.T, random *rand.Rand, data string) string {
	t.Helper()
	tail := tailSegment(t, data)
	if tail == "" {
		return "no segment"
	}
	content, err := os.ReadFile(tail)
	if err != nil {
		t.Fatal(err)
	}
	var junk []byte
	how := "untouched"
	switch random.IntN(4) {
	case 1:
		how = "half a record"
		// The first bytes of the segment are a whole record: its beginning is
		// what a torn write of such a record looks like.
		if len(content) > 8 {
			junk = content[:1+random.IntN(min(len(content)/2, 30))]
		}
	case 2:
		how = "zeros"
		junk = make([]byte, 1+random.IntN(8192))
	case 3:
		how = "garbage"
		junk = make([]byte, 1+random.IntN(4096))
		for i := range junk {
			junk[i] = byte(random.Uint32())
		}
	}
	if err := os.WriteFile(tail, append(content, junk...), 0o600); err != nil {
		t.Fatal(err)
	}
	return how
}

// tailSegment is the newest file of tidwall/wal, whose names are 20 digits.
func tailSegment(t *testing.T, data string) string {
	t.Helper()
	newest := ""
	err := filepath.WalkDir(data, func(path string, item os.DirEntry, err error) error {
		name := filepath.Base(path)
		if err == nil && !item.IsDir() && len(name) == 20 && strings.Trim(name, "0123456789") == "" && name > filepath.Base(newest) {
			newest = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return newest
}
