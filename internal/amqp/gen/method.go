package main

import "fmt"

// method writes one method's struct and codec. Reserved fields have no place
// in the struct: they are skipped when read and written as nothing.
func (w *writer) method(c class, m method) error {
	name := typeName(c, m)
	w.line("// %s is the method %s.%s.", name, c.Name, m.Name)
	w.line("type %s struct {", name)
	for _, f := range m.Fields {
		if !f.Reserved {
			native, ok := natives[f.Type]
			if !ok {
				return fmt.Errorf("field %s: unknown type %q", f.Name, f.Type)
			}
			w.line("%s %s", public(f.Name), native)
		}
	}
	w.line("}\n")
	w.line("// ID is ID%s.\nfunc (m *%s) ID() MethodID { return ID%s }\n", name, name, name)

	w.line("// Parse decodes the arguments, which are all of b. The error is an *Error.")
	w.line("func (m *%s) Parse(b []byte) error {\nd := decoder{rest: b}", name)
	w.parse(m.Fields)
	w.line("return d.finish(ID%s)\n}\n", name)

	w.line("// Append appends the arguments.\nfunc (m *%s) Append(dst []byte) []byte {", name)
	w.append(m.Fields)
	w.line("return dst\n}\n")
	return nil
}

// natives are the Go types of the elementary types.
var natives = map[string]string{
	"bit": "bool", "octet": "uint8", "short": "uint16", "long": "uint32", "longlong": "uint64",
	"shortstr": "string", "longstr": "string", "timestamp": "time.Time", "table": "Table",
}

// parse writes the reads. Adjacent bits share octets, the first in the lowest
// bit (AMQP 0-9-1, section 4.2.5.2).
func (w *writer) parse(fields []field) {
	bits := 0
	for _, f := range fields {
		if f.Type != "bit" {
			bits = 0
			if f.Reserved {
				w.line("d.%s()", f.Type)
			} else {
				w.line("m.%s = d.%s()", public(f.Name), f.Type)
			}
			continue
		}
		if bits%8 == 0 {
			w.line("d.bits()")
		}
		if !f.Reserved {
			w.line("m.%s = d.bit(%d)", public(f.Name), bits%8)
		}
		bits++
	}
}

func (w *writer) append(fields []field) {
	for i := 0; i < len(fields); i++ {
		f := fields[i]
		if f.Type == "bit" {
			end := i
			for end < len(fields) && fields[end].Type == "bit" && end-i < 8 {
				end++
			}
			w.bits(fields[i:end])
			i = end - 1
			continue
		}
		value := "m." + public(f.Name)
		switch f.Type {
		case "octet":
			w.line("dst = append(dst, %s)", or(f.Reserved, "0", value))
		case "short":
			w.line("dst = binary.BigEndian.AppendUint16(dst, %s)", or(f.Reserved, "0", value))
		case "long":
			w.line("dst = binary.BigEndian.AppendUint32(dst, %s)", or(f.Reserved, "0", value))
		case "longlong":
			w.line("dst = binary.BigEndian.AppendUint64(dst, %s)", or(f.Reserved, "0", value))
		case "timestamp":
			w.line("dst = binary.BigEndian.AppendUint64(dst, uint64(%s.Unix()))", value)
		case "shortstr":
			w.line("dst = appendShort(dst, %s)", or(f.Reserved, `""`, value))
		case "longstr":
			w.line("dst = appendLong(dst, %s)", or(f.Reserved, `""`, value))
		case "table":
			w.line("dst = appendMustTable(dst, %s)", or(f.Reserved, "nil", value))
		}
	}
}

func (w *writer) bits(fields []field) {
	expression := ""
	for i, f := range fields {
		if !f.Reserved {
			expression += fmt.Sprintf(" | bit(m.%s, %d)", public(f.Name), i)
		}
	}
	if expression == "" {
		expression = " | 0"
	}
	w.line("dst = append(dst, %s)", expression[3:])
}

func or(condition bool, yes, no string) string {
	if condition {
		return yes
	}
	return no
}
