package main

import "strings"

// initialisms are the words that Go writes in capitals.
var initialisms = map[string]string{"id": "ID"}

// overrides are the names that the rule would make badly.
var overrides = map[string]string{
	"nowait":   "NoWait",
	"reserved": "ClusterID", // the last property; AMQP 0-8 called it so, and RabbitMQ still does
}

// public turns a name of the specification into an exported Go name.
func public(name string) string {
	if n, ok := overrides[name]; ok {
		return n
	}
	var b strings.Builder
	for _, word := range strings.Split(name, "-") {
		if capitals, ok := initialisms[word]; ok {
			b.WriteString(capitals)
			continue
		}
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}

func typeName(c class, m method) string { return public(c.Name) + public(m.Name) }
