package main

import (
	"fmt"
	"strings"
)

// properties writes the flags, the types in their order, and the struct with
// its codec.
func (w *writer) properties(c class) error {
	if len(c.Fields) > 15 {
		return fmt.Errorf("%d properties don't fit one short of flags", len(c.Fields))
	}
	w.line("// The flags of the properties of class %s.\nconst (", c.Name)
	for i, f := range c.Fields {
		w.line("Flag%s = 1 << %d", public(f.Name), 15-i)
	}
	w.line(")\n")
	var all, kinds []string
	for _, f := range c.Fields {
		all = append(all, "Flag"+public(f.Name))
		kinds = append(kinds, "kind"+strings.ToUpper(f.Type[:1])+f.Type[1:])
	}
	w.line("// allFlags has the flag of every property there is.\nconst allFlags = %s\n", strings.Join(all, " | "))
	w.line("// propertyKinds has the properties' types, that of bit 15 first.")
	w.line("var propertyKinds = [...]propertyKind{%s}\n", strings.Join(kinds, ", "))

	w.line("// Properties are the decoded properties of a message, for code that makes or changes")
	w.line("// them; what only reads a few uses RawProperties.")
	w.line("type Properties struct {")
	w.line("// Present has the flags of the properties that are there, set by Parse. Append writes")
	w.line("// those, and others whose value is not zero: so it can be left 0 when making new ones.")
	w.line("Present uint16")
	for _, f := range c.Fields {
		w.line("%s %s", public(f.Name), natives[f.Type])
	}
	w.line("}\n")

	w.line("// parse reads the values that the flags announce.\nfunc (m *Properties) parse(d *decoder) {")
	for _, f := range c.Fields {
		w.line("if m.Present&Flag%[1]s != 0 { m.%[1]s = d.%[2]s() }", public(f.Name), f.Type)
	}
	w.line("}\n")

	w.line("// flags is Present with the flags of the values that are not zero.")
	w.line("func (m *Properties) flags() uint16 {\nflags := m.Present & allFlags")
	for _, f := range c.Fields {
		zero := map[string]string{
			"shortstr": "m.%s != \"\"", "octet": "m.%s != 0", "table": "len(m.%s) > 0", "timestamp": "!m.%s.IsZero()",
		}[f.Type]
		if zero == "" {
			return fmt.Errorf("%s: no property can be a %s", f.Name, f.Type)
		}
		w.line("if "+zero+" { flags |= Flag%[1]s }", public(f.Name))
	}
	w.line("return flags\n}\n")

	w.line("// append writes the values that the flags announce.\nfunc (m *Properties) append(dst []byte, flags uint16) []byte {")
	for _, f := range c.Fields {
		w.line("if flags&Flag%s != 0 {", public(f.Name))
		w.append([]field{f})
		w.line("}")
	}
	w.line("return dst\n}")
	return nil
}
