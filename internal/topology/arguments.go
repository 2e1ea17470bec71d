package topology

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

func sortedKeys(t amqp.Table) []string { return slices.Sorted(maps.Keys(t)) }

// argumentRule is what a queue argument must be. check returns the Erlang term
// that RabbitMQ's text ends in, "" where the argument is well.
type argumentRule struct {
	name            string
	classic, quorum bool // the queue types that know it
	check           func(v any, arguments amqp.Table) string
}

// argumentRules are in the order in which RabbitMQ checks them, ours last.
var argumentRules = []argumentRule{
	{"x-expires", true, true, checkExpires},
	{"x-message-ttl", true, true, checkTTL},
	{"x-dead-letter-exchange", true, true, checkString},
	{"x-dead-letter-routing-key", true, true, checkDeadLetterKey},
	{"x-dead-letter-strategy", false, true, oneOf("invalid_dlx_strategy", "at-most-once", "at-least-once")},
	{"x-max-length", true, true, checkCount},
	{"x-max-length-bytes", true, true, checkCount},
	{"x-max-in-memory-length", false, true, checkCount},
	{"x-max-in-memory-bytes", false, true, checkCount},
	{"x-max-priority", true, false, checkPriority},
	{"x-overflow", true, true, oneOf("invalid_overflow", "drop-head", "reject-publish", "reject-publish-dlx")},
	{"x-queue-mode", true, false, oneOf(`"unsupported queue mode '%s'"`, "default", "lazy")},
	{"x-queue-version", true, false, checkVersion},
	{"x-single-active-consumer", true, true, checkBool},
	{"x-quorum-initial-group-size", false, true, checkSize},
	{"x-queue-leader-locator", false, true, oneOf("invalid_queue_locator_arg", "client-local", "balanced", "random", "least-leaders")},
	{"x-queue-master-locator", true, false, nil},
	{"x-delivery-limit", false, true, nil},
	{"x-ack-quorum", true, true, checkAckQuorum},
	{"x-copies", true, true, checkSize},
}

var checkQueueType = oneOf(`"unsupported queue type '%s'"`, "classic", "quorum")

// CheckNewQueue says whether the arguments and properties of a queue that is
// to be made are well: nil, or the 406 of RabbitMQ 3.10. It is asked only
// where the queue isn't there: a second declare is asked about its equivalence
// instead. It looks at Vhost, Name, Arguments, Durable, Exclusive, AutoDelete;
// an empty Name means that the server is to make one up.
func CheckNewQueue(q *Queue) *amqp.Error {
	what := describe(QueueKind, q.Vhost, q.Name)
	arguments := q.Arguments
	if v, found := arguments["x-dead-letter-exchange"]; found {
		if _, ok := v.(string); !ok {
			return amqp.PreconditionFailed("invalid type '%s' for arg 'x-dead-letter-exchange' in %s", fieldType(v), what)
		}
	}
	if v, found := arguments["x-queue-type"]; found {
		if term := checkQueueType(v, arguments); term != "" {
			return invalidArgument("x-queue-type", what, term)
		}
	}
	quorum := QueueType(arguments) == "quorum"
	for i := range argumentRules {
		rule := &argumentRules[i]
		v, found := arguments[rule.name]
		if !found || rule.check == nil || quorum && !rule.quorum || !quorum && !rule.classic {
			continue
		}
		if term := rule.check(v, arguments); term != "" {
			return invalidArgument(rule.name, what, term)
		}
	}
	if e := checkForeignArguments(arguments, what, quorum); e != nil {
		return e
	}
	if quorum {
		return checkQuorumProperties(q, what)
	}
	return nil
}

func invalidArgument(name, what, term string) *amqp.Error {
	return amqp.PreconditionFailed("invalid arg '%s' for %s: %s", name, what, term)
}

// checkForeignArguments refuses arguments that only the other type of queue
// knows. RabbitMQ goes through the table in the order of the wire, which a
// Table has lost: ours is by name.
func checkForeignArguments(arguments amqp.Table, what string, quorum bool) *amqp.Error {
	if len(arguments) == 0 {
		return nil
	}
	for _, name := range sortedKeys(arguments) {
		i := slices.IndexFunc(argumentRules, func(r argumentRule) bool { return r.name == name })
		if i < 0 {
			continue
		}
		if quorum && !argumentRules[i].quorum {
			return amqp.PreconditionFailed("invalid arg '%s' for %s of queue type rabbit_quorum_queue", name, what)
		}
		if !quorum && !argumentRules[i].classic {
			return amqp.PreconditionFailed("invalid arg '%s' for %s of queue type rabbit_classic_queue", name, what)
		}
	}
	return nil
}

// checkQuorumProperties refuses what a quorum queue can't be.
func checkQuorumProperties(q *Queue, what string) *amqp.Error {
	switch {
	case q.Name == "":
		return amqp.PreconditionFailed("Cannot declare a server-named queue for type rabbit_quorum_queue")
	case q.AutoDelete:
		return amqp.PreconditionFailed("invalid property 'auto-delete' for %s", what)
	case q.Exclusive:
		return amqp.PreconditionFailed("invalid property 'exclusive-owner' for %s", what)
	case !q.Durable:
		return amqp.PreconditionFailed("invalid property 'non-durable' for %s", what)
	}
	return nil
}

// CheckNewExchange says whether an exchange that is to be made is well: nil, a
// 503 for an unknown kind (asked before anything else, also of an exchange that
// is there), or a 406 for an alternate exchange that isn't a name.
func CheckNewExchange(e *Exchange) *amqp.Error {
	if kindOf(e.Kind) == noKind {
		return UnknownExchangeKind(e.Kind)
	}
	if v, found := e.Arguments["alternate-exchange"]; found {
		if _, ok := v.(string); !ok {
			return amqp.PreconditionFailed("invalid type '%s' for arg 'alternate-exchange' in %s",
				fieldType(v), describe(ExchangeKind, e.Vhost, e.Name))
		}
	}
	return nil
}

// CheckBinding says whether a binding from an exchange of a kind may have these
// arguments: nil, or a 406 for an x-match that headers exchanges don't know.
func CheckBinding(kind string, arguments amqp.Table) *amqp.Error {
	if kind != "headers" {
		return nil
	}
	v, found := arguments["x-match"]
	if !found {
		return nil
	}
	switch v := v.(type) {
	case string:
		switch v {
		case "all", "any", "all-with-x", "any-with-x":
			return nil
		}
		return amqp.PreconditionFailed("Invalid x-match field value %s; expected all, any, all-with-x, or any-with-x", appendTerm(nil, v))
	default:
		return amqp.PreconditionFailed("Invalid x-match field type %s (value %s); expected longstr", fieldType(v), appendTerm(nil, v))
	}
}

func checkInteger(v any) (n int64, term string) {
	n, ok := integer(v)
	if !ok {
		return 0, fmt.Sprintf(`"expected integer, got %s"`, fieldType(v))
	}
	return n, ""
}

func checkCount(v any, _ amqp.Table) string {
	n, term := checkInteger(v)
	if term == "" && n < 0 {
		return fmt.Sprintf("{value_negative,%d}", n)
	}
	return term
}

// maxExpiry is ten years in ms, RabbitMQ's longest time to live.
const maxExpiry = 315360000000

func checkTTL(v any, arguments amqp.Table) string {
	if term := checkCount(v, arguments); term != "" {
		return term
	}
	if n, _ := integer(v); n > maxExpiry {
		return fmt.Sprintf("{value_too_large,%d}", n)
	}
	return ""
}

func checkExpires(v any, arguments amqp.Table) string {
	if n, ok := integer(v); ok && n == 0 {
		return "{value_zero,0}"
	}
	return checkTTL(v, arguments)
}

func checkSize(v any, arguments amqp.Table) string {
	if n, ok := integer(v); ok && n == 0 {
		return "{value_zero,0}"
	}
	return checkCount(v, arguments)
}

func checkPriority(v any, arguments amqp.Table) string {
	if term := checkCount(v, arguments); term != "" {
		return term
	}
	if n, _ := integer(v); n > 255 {
		return fmt.Sprintf("{max_value_exceeded,%d}", n)
	}
	return ""
}

func checkVersion(v any, arguments amqp.Table) string {
	if term := checkCount(v, arguments); term != "" {
		return term
	}
	if n, _ := integer(v); n != 1 && n != 2 {
		return fmt.Sprintf(`"unsupported queue version '%d'"`, n)
	}
	return ""
}

func unacceptable(v any) string { return fmt.Sprintf("{unacceptable_type,%s}", fieldType(v)) }

func checkBool(v any, _ amqp.Table) string {
	if _, ok := v.(bool); !ok {
		return unacceptable(v)
	}
	return ""
}

func checkString(v any, _ amqp.Table) string {
	if _, ok := v.(string); !ok {
		return unacceptable(v)
	}
	return ""
}

func checkDeadLetterKey(v any, arguments amqp.Table) string {
	if _, ok := v.(string); !ok {
		return unacceptable(v)
	}
	if _, found := arguments["x-dead-letter-exchange"]; !found {
		return "routing_key_but_no_dlx_defined"
	}
	return ""
}

// oneOf makes a check for a string that must be one of some. term may have a
// %s for what it is instead.
func oneOf(term string, allowed ...string) func(any, amqp.Table) string {
	return func(v any, _ amqp.Table) string {
		s, ok := v.(string)
		if !ok {
			return unacceptable(v)
		}
		if slices.Contains(allowed, s) {
			return ""
		}
		if term[0] == '"' {
			return fmt.Sprintf(term, s)
		}
		return term
	}
}

func checkAckQuorum(v any, _ amqp.Table) string {
	if _, ok := AckQuorum(v); !ok {
		return "invalid_ack_quorum"
	}
	return ""
}

// AckQuorum reads an x-ack-quorum argument or header: "leader", "majority",
// "all", or a number of copies from 1 on, as an integer or in digits. It
// returns the first three as they are, and numbers in digits.
func AckQuorum(v any) (string, bool) {
	if s, ok := v.(string); ok {
		switch s {
		case "leader", "majority", "all":
			return s, true
		}
		n, err := strconv.Atoi(s)
		return strconv.Itoa(n), err == nil && n > 0
	}
	n, ok := integer(v)
	return strconv.FormatInt(n, 10), ok && n > 0
}

// CheckAckQuorum refuses a queue whose ack quorum is a number above the copies
// that its group has: 406.
func CheckAckQuorum(q *Queue, copies int) *amqp.Error {
	if n, err := strconv.Atoi(q.AckQuorum); err == nil && n > copies {
		return amqp.PreconditionFailed("ack quorum %d of %s is above the %d copies of its group", n, describe(QueueKind, q.Vhost, q.Name), copies)
	}
	return nil
}
