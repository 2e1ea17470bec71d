package main

import (
	"encoding/xml"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	module = "github.com/rabbitmq/amqp091-go"
	file   = "spec/amqp0-9-1.stripped.extended.xml"
)

// spec is what we use of the XML.
type spec struct {
	Constants []constant `xml:"constant"`
	Domains   []struct {
		Name string `xml:"name,attr"`
		Type string `xml:"type,attr"`
	} `xml:"domain"`
	Classes []class `xml:"class"`
}

type constant struct {
	Name  string `xml:"name,attr"`
	Value int    `xml:"value,attr"`
	Class string `xml:"class,attr"` // soft-error, hard-error or nothing
}

type class struct {
	Name    string   `xml:"name,attr"`
	Index   int      `xml:"index,attr"`
	Fields  []field  `xml:"field"` // the content's properties
	Methods []method `xml:"method"`
}

type method struct {
	Name    string  `xml:"name,attr"`
	Index   int     `xml:"index,attr"`
	Content bool    `xml:"content,attr"`
	Fields  []field `xml:"field"`
}

type field struct {
	Name     string `xml:"name,attr"`
	Domain   string `xml:"domain,attr"`
	Type     string `xml:"type,attr"` // an elementary type, once the spec is complete
	Reserved bool   `xml:"reserved,attr"`
}

// readSpec finds the module in the module cache and decodes its XML.
func readSpec() (*spec, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return nil, fmt.Errorf("where is %s: %w", module, err)
	}
	b, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), filepath.FromSlash(file)))
	if err != nil {
		return nil, err
	}
	var s spec
	if err := xml.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return &s, nil
}

// extensions are RabbitMQ's methods. An XML that has one already, as the
// module's of today has them all, keeps its own.
var extensions = []class{
	{Name: "connection", Methods: []method{
		{Name: "blocked", Index: 60, Fields: []field{{Name: "reason", Type: "shortstr"}}},
		{Name: "unblocked", Index: 61},
		{Name: "update-secret", Index: 70, Fields: []field{{Name: "new-secret", Type: "longstr"}, {Name: "reason", Type: "shortstr"}}},
		{Name: "update-secret-ok", Index: 71},
	}},
	{Name: "exchange", Methods: []method{
		{Name: "bind", Index: 30, Fields: exchangeBinding},
		{Name: "bind-ok", Index: 31},
		{Name: "unbind", Index: 40, Fields: exchangeBinding},
		{Name: "unbind-ok", Index: 51},
	}},
	{Name: "basic", Methods: []method{
		{Name: "nack", Index: 120, Fields: []field{
			{Name: "delivery-tag", Type: "longlong"}, {Name: "multiple", Type: "bit"}, {Name: "requeue", Type: "bit"},
		}},
	}},
	{Name: "confirm", Index: 85, Methods: []method{
		{Name: "select", Index: 10, Fields: []field{{Name: "nowait", Type: "bit"}}},
		{Name: "select-ok", Index: 11},
	}},
}

var exchangeBinding = []field{
	{Name: "reserved-1", Type: "short", Reserved: true},
	{Name: "destination", Type: "shortstr"}, {Name: "source", Type: "shortstr"}, {Name: "routing-key", Type: "shortstr"},
	{Name: "no-wait", Type: "bit"}, {Name: "arguments", Type: "table"},
}

// complete adds the extensions that are missing and resolves every domain to
// its elementary type.
func (s *spec) complete() error {
	for _, e := range extensions {
		c := s.class(e.Name)
		if c == nil {
			s.Classes = append(s.Classes, class{Name: e.Name, Index: e.Index})
			c = &s.Classes[len(s.Classes)-1]
		}
		for _, m := range e.Methods {
			if !c.has(m.Name) {
				c.Methods = append(c.Methods, m)
			}
		}
	}
	types := map[string]string{}
	for _, d := range s.Domains {
		types[d.Name] = d.Type
	}
	resolve := func(fields []field) error {
		for i := range fields {
			if f := &fields[i]; f.Type == "" {
				if f.Type = types[f.Domain]; f.Type == "" {
					return fmt.Errorf("field %s: unknown domain %q", f.Name, f.Domain)
				}
			}
		}
		return nil
	}
	for _, c := range s.Classes {
		if err := resolve(c.Fields); err != nil {
			return err
		}
		for _, m := range c.Methods {
			if err := resolve(m.Fields); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *spec) class(name string) *class {
	for i := range s.Classes {
		if s.Classes[i].Name == name {
			return &s.Classes[i]
		}
	}
	return nil
}

func (c *class) has(name string) bool {
	for _, m := range c.Methods {
		if m.Name == name {
			return true
		}
	}
	return false
}
