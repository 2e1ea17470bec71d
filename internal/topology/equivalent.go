package topology

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

// comparedClassic and comparedQuorum are the arguments that a second declare
// must repeat, by the type of the queue that is there, in the order in which
// RabbitMQ compares them and ours last. Others are not compared.
var (
	comparedClassic = []string{
		"x-expires", "x-message-ttl", "x-dead-letter-exchange", "x-dead-letter-routing-key", "x-max-length",
		"x-max-length-bytes", "x-max-priority", "x-overflow", "x-queue-mode", "x-queue-version",
		"x-single-active-consumer", "x-queue-type", "x-queue-master-locator", "x-ack-quorum", "x-copies",
	}
	comparedQuorum = []string{
		"x-dead-letter-exchange", "x-dead-letter-routing-key", "x-dead-letter-strategy", "x-expires", "x-max-length",
		"x-max-length-bytes", "x-max-in-memory-length", "x-max-in-memory-bytes", "x-overflow", "x-single-active-consumer",
		"x-queue-type", "x-quorum-initial-group-size", "x-delivery-limit", "x-message-ttl", "x-queue-leader-locator",
		"x-ack-quorum", "x-copies",
	}
)

// CheckQueueEquivalent says whether a declare of wanted may be content with
// existing (RABBITMQ.md 3 and 4): nil, a 405 where one is exclusive and not to
// the same connection, or a 406 that names the first difference. A passive
// declare asks CheckQueueOwner instead (RABBITMQ.md 10).
func CheckQueueEquivalent(existing, wanted *Queue) *amqp.Error {
	if existing.Exclusive != wanted.Exclusive || existing.Owner != wanted.Owner {
		return QueueLocked(existing.Vhost, existing.Name)
	}
	what := describe(QueueKind, existing.Vhost, existing.Name)
	// An exclusive queue isn't durable, whatever its declarer says.
	durable := func(q *Queue) bool { return q.Durable && !q.Exclusive }
	if e := checkField("durable", what, durable(existing), durable(wanted)); e != nil {
		return e
	}
	if e := checkField("auto_delete", what, existing.AutoDelete, wanted.AutoDelete); e != nil {
		return e
	}
	compared := comparedClassic
	if QueueType(existing.Arguments) == "quorum" {
		compared = comparedQuorum
	}
	for _, name := range compared {
		if e := checkArgument(name, what, existing.Arguments, wanted.Arguments); e != nil {
			return e
		}
	}
	return nil
}

// CheckExchangeEquivalent says whether a declare of wanted may be content with
// existing (RABBITMQ.md 3): nil, or a 406 that names the first difference.
func CheckExchangeEquivalent(existing, wanted *Exchange) *amqp.Error {
	what := describe(ExchangeKind, existing.Vhost, existing.Name)
	if existing.Kind != wanted.Kind {
		return inequivalent("type", what, quoted(wanted.Kind), quoted(existing.Kind))
	}
	if e := checkField("durable", what, existing.Durable, wanted.Durable); e != nil {
		return e
	}
	if e := checkField("auto_delete", what, existing.AutoDelete, wanted.AutoDelete); e != nil {
		return e
	}
	if e := checkField("internal", what, existing.Internal, wanted.Internal); e != nil {
		return e
	}
	return checkArgument("alternate-exchange", what, existing.Arguments, wanted.Arguments)
}

func inequivalent(name, what, received, current string) *amqp.Error {
	return amqp.PreconditionFailed("inequivalent arg '%s' for %s: received %s but current is %s", name, what, received, current)
}

func quoted(s string) string { return "'" + s + "'" }

func checkField(name, what string, existing, wanted bool) *amqp.Error {
	if existing == wanted {
		return nil
	}
	return inequivalent(name, what, quoted(strconv.FormatBool(wanted)), quoted(strconv.FormatBool(existing)))
}

// checkArgument compares an argument as rabbit_misc:assert_args_equivalence
// does: what both have differs by value, and the text then has the values
// alone; what only one has is printed with its type.
func checkArgument(name, what string, existing, wanted amqp.Table) *amqp.Error {
	current, has := existing[name]
	received, asks := wanted[name]
	switch {
	case !has && !asks:
		return nil
	case has && asks:
		if sameArgument(current, received) {
			return nil
		}
		return inequivalent(name, what, plainText(received), plainText(current))
	case name == "x-queue-type" && (current == "classic" || received == "classic"):
		return nil
	case has:
		return inequivalent(name, what, "none", typedText(current))
	}
	return inequivalent(name, what, typedText(received), "none")
}

// sameArgument reports whether RabbitMQ holds two fields to be equal: numbers
// of one sort whatever their width, else values of any types that are the same
// Erlang term.
func sameArgument(a, b any) bool {
	if fa, ok := float(a); ok {
		fb, ok := float(b)
		return ok && fa == fb
	}
	if _, ok := float(b); ok {
		return false
	}
	return string(appendValue(nil, a)) == string(appendValue(nil, b))
}

func float(v any) (float64, bool) {
	switch v := v.(type) {
	case float32:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

// plainText prints one of two values that both are there. RabbitMQ can't tell
// a void one from none here.
func plainText(v any) string {
	if v == nil {
		return "none"
	}
	return quoted(erlangText(v))
}

func typedText(v any) string {
	return fmt.Sprintf("the value '%s' of type '%s'", erlangText(v), fieldType(v))
}

// fieldType is RabbitMQ's name for a field's type.
func fieldType(v any) string {
	switch v.(type) {
	case bool:
		return "bool"
	case int8:
		return "byte"
	case uint8:
		return "unsignedbyte"
	case int16:
		return "short"
	case uint16:
		return "unsignedshort"
	case int32:
		return "signedint"
	case uint32:
		return "unsignedint"
	case int64, int:
		return "long"
	case float32:
		return "float"
	case float64:
		return "double"
	case amqp.Decimal:
		return "decimal"
	case string:
		return "longstr"
	case []byte:
		return "binary"
	case []any:
		return "array"
	case time.Time:
		return "timestamp"
	case amqp.Table:
		return "table"
	}
	return "void"
}

// erlangText prints a field's value as RabbitMQ does in its texts: strings as
// they are, all else as an Erlang term.
func erlangText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return string(appendTerm(nil, v))
}

// maxTerm ends the printing of a long term: an error text has 255 bytes.
const maxTerm = 300

func appendTerm(dst []byte, v any) []byte {
	if len(dst) > maxTerm {
		return dst
	}
	if n, ok := integer(v); ok {
		return strconv.AppendInt(dst, n, 10)
	}
	switch v := v.(type) {
	case bool:
		return strconv.AppendBool(dst, v)
	case string:
		return append(append(append(dst, `<<"`...), v...), `">>`...)
	case []byte:
		return appendTerm(dst, string(v))
	case time.Time:
		return strconv.AppendInt(dst, v.Unix(), 10)
	case float32:
		return appendFloatTerm(dst, float64(v))
	case float64:
		return appendFloatTerm(dst, v)
	case amqp.Decimal:
		return fmt.Appendf(dst, "{%d,%d}", v.Scale, v.Value)
	case []any:
		dst = append(dst, '[')
		for i, e := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(append(append(dst, '{'), fieldType(e)...), ',')
			dst = append(appendTerm(dst, e), '}')
		}
		return append(dst, ']')
	case amqp.Table:
		dst = append(dst, '[')
		for i, name := range sortedKeys(v) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendTerm(append(dst, '{'), name)
			dst = append(append(append(dst, ','), fieldType(v[name])...), ',')
			dst = append(appendTerm(dst, v[name]), '}')
		}
		return append(dst, ']')
	}
	return append(dst, "undefined"...)
}

// appendFloatTerm prints a float as Erlang does: with at least one digit after
// the point, and with an exponent where that is shorter, or where not every
// integer is a float any more.
func appendFloatTerm(dst []byte, f float64) []byte {
	if math.IsInf(f, 0) || math.IsNaN(f) { // Erlang has no such floats
		return append(dst, "undefined"...)
	}
	plain := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(plain, ".") {
		plain += ".0"
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, 64), "e")
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	sign := ""
	if exponent[0] == '-' {
		sign = "-"
	}
	scientific := mantissa + "e" + sign + strings.TrimLeft(exponent[1:], "0")
	if f != 0 && (len(scientific) < len(plain) || math.Abs(f) >= 1<<53) {
		return append(dst, scientific...)
	}
	return append(dst, plain...)
}
