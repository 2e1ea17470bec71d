package topology

import (
	"slices"
	"strings"
	"time"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

// The matching rules once more, as plainly as can be: what the indexes are
// held against.

// naiveMatch reports whether a binding from an exchange of a kind matches.
func naiveMatch(kind string, b Binding, key string, headers amqp.Table) bool {
	switch kind {
	case "direct":
		return b.RoutingKey == key
	case "fanout":
		return true
	case "topic":
		return naiveTopic(words(b.RoutingKey), words(key))
	}
	return naiveHeaders(b.Arguments, headers)
}

func words(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ".")
}

// naiveTopic fills the table of which beginnings of the pattern match which
// beginnings of the key.
func naiveTopic(pattern, key []string) bool {
	row := make([]bool, len(key)+1)
	row[0] = true
	for _, p := range pattern {
		next := make([]bool, len(key)+1)
		for i := range next {
			switch {
			case p == "#":
				next[i] = row[i] || i > 0 && next[i-1]
			case i > 0 && (p == "*" || p == key[i-1]):
				next[i] = row[i-1]
			}
		}
		row = next
	}
	return row[len(key)]
}

func naiveHeaders(arguments, headers amqp.Table) bool {
	mode, _ := arguments["x-match"].(string)
	matching, asked := 0, 0
	for name, want := range arguments {
		if name == "x-match" || strings.HasPrefix(name, "x-") && !strings.HasSuffix(mode, "-with-x") {
			continue
		}
		asked++
		if got, found := headers[name]; found && (want == nil || naiveEqual(want, got)) {
			matching++
		}
	}
	if strings.HasPrefix(mode, "any") {
		return matching > 0
	}
	return matching == asked
}

// naiveEqual is Erlang's == for the fields that the tests use.
func naiveEqual(a, b any) bool {
	number := func(v any) (float64, bool) {
		switch v := v.(type) {
		case int8:
			return float64(v), true
		case uint16:
			return float64(v), true
		case int32:
			return float64(v), true
		case int64:
			return float64(v), true
		case float32:
			return float64(v), true
		case float64:
			return v, true
		case time.Time:
			return float64(v.Unix()), true
		}
		return 0, false
	}
	if x, ok := number(a); ok {
		y, ok := number(b)
		return ok && x == y
	}
	text := func(v any) (string, bool) {
		switch v := v.(type) {
		case string:
			return v, true
		case []byte:
			return string(v), true
		}
		return "", false
	}
	if x, ok := text(a); ok {
		y, ok := text(b)
		return ok && x == y
	}
	x, ok := a.(bool)
	y, ok2 := b.(bool)
	return ok && ok2 && x == y
}

// naiveRoute finds the queues of a publish by scanning all bindings.
func naiveRoute(exchanges map[string]Exchange, bindings []Binding, queues []string, exchange, key string, headers amqp.Table) []string {
	found := map[string]bool{}
	if exchange == "" {
		found[key] = true
	}
	seen := map[string]bool{}
	for pending := []string{exchange}; len(pending) > 0 && exchange != ""; {
		x := exchanges[pending[0]]
		pending = pending[1:]
		if seen[x.Name] {
			continue
		}
		seen[x.Name] = true
		matched := false
		for _, b := range bindings {
			if b.Source != x.Name || !naiveMatch(x.Kind, b, key, headers) {
				continue
			}
			matched = true
			if b.ToExchange {
				pending = append(pending, b.Destination)
			} else {
				found[b.Destination] = true
			}
		}
		alternate, _ := x.Arguments["alternate-exchange"].(string)
		if _, there := exchanges[alternate]; !matched && there && alternate != "" {
			pending = append(pending, alternate)
		}
	}
	return slices.DeleteFunc(slices.Clone(queues), func(q string) bool { return !found[q] })
}
