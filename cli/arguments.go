package main

import (
	"encoding/json"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

// parseTable reads --header and --arg flags: name=text is a string, name:=JSON
// is a number, a boolean, null, an array or an object. Whole numbers become
// int64, which brokers compare with any width.
func parseTable(flag string, pairs []string) (amqp.Table, error) {
	if len(pairs) == 0 {
		return nil, nil
	}
	t := amqp.Table{}
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" || name == ":" {
			return nil, usage("--%s %q: write name=text, or name:=JSON for numbers and the like", flag, pair)
		}
		name, isJSON := strings.CutSuffix(name, ":")
		if !isJSON {
			t[name] = value
			continue
		}
		d := json.NewDecoder(strings.NewReader(value))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil || d.More() {
			return nil, usage("--%s %q: %q is not JSON; for text write %s=%s", flag, pair, value, name, value)
		}
		t[name] = fieldValue(v)
	}
	return t, nil
}

// fieldValue turns decoded JSON into AMQP field values.
func fieldValue(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64() // The decoder let it through: it is a number.
		return f
	case []any:
		for i := range v {
			v[i] = fieldValue(v[i])
		}
		return v
	case map[string]any:
		t := amqp.Table{}
		for k, x := range v {
			t[k] = fieldValue(x)
		}
		return t
	}
	return v
}
