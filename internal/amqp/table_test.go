package amqp

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestATableIsEncodedWithSortedKeysInRabbitMQsDialect(t *testing.T) {
	table := Table{
		"t": true, "b": int8(-1), "B": uint8(255), "s": int16(-2), "u": uint16(3), "I": int32(-4), "i": uint32(5),
		"l": int64(-6), "f": float32(1.5), "d": float64(-2.5), "D": Decimal{2, -12345}, "S": "text", "x": []byte{0, 1},
		"T": time.Unix(1_700_000_000, 0).UTC(), "V": nil, "A": []any{"a", int32(1)}, "F": Table{"z": nil, "y": false},
	}
	want := "" +
		"\x01AA\x00\x00\x00\x0bS\x00\x00\x00\x01aI\x00\x00\x00\x01" +
		"\x01BB\xff" +
		"\x01DD\x02\xff\xff\xcf\xc7" +
		"\x01FF\x00\x00\x00\x07\x01yt\x00\x01zV" +
		"\x01II\xff\xff\xff\xfc" +
		"\x01SS\x00\x00\x00\x04text" +
		"\x01TT\x00\x00\x00\x00\x65\x53\xf1\x00" +
		"\x01VV" +
		"\x01bb\xff" +
		"\x01dd\xc0\x04\x00\x00\x00\x00\x00\x00" +
		"\x01ff\x3f\xc0\x00\x00" +
		"\x01ii\x00\x00\x00\x05" +
		"\x01ll\xff\xff\xff\xff\xff\xff\xff\xfa" +
		"\x01ss\xff\xfe" +
		"\x01tt\x01" +
		"\x01uu\x00\x03" +
		"\x01xx\x00\x00\x00\x02\x00\x01"
	got, err := AppendTable([]byte("head"), table)
	if err != nil {
		t.Fatal(err)
	}
	if string(got[8:]) != want || string(got[:4]) != "head" || int(got[7]) != len(want)&255 {
		t.Fatalf("got\n%q, want\n%q", got, want)
	}
	back, rest, err := ParseTable(append(got[4:], "tail"...))
	if err != nil || string(rest) != "tail" || !reflect.DeepEqual(back, table) {
		t.Fatalf("got %v, %q, %v", back, rest, err)
	}
}

func TestRandomTablesComeBackEqual(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		table := randomTable(r, 4)
		encoded, err := AppendTable(nil, table)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		back, rest, err := ParseTable(encoded)
		if err != nil || len(rest) > 0 || !reflect.DeepEqual(back, table) {
			t.Fatalf("seed %d: %v became %v, %v", seed, table, back, err)
		}
		if !validTable(encoded[4:], 0) {
			t.Fatalf("seed %d: not valid: %v", seed, table)
		}
		for key, value := range table {
			field, ok := RawTable(encoded[4:]).Lookup(key)
			got, err := field.Value()
			if !ok || err != nil || !reflect.DeepEqual(got, value) {
				t.Fatalf("seed %d: %q is %v, found %v, %v", seed, key, value, got, err)
			}
		}
	}
}

func TestWhatIsNoTableIsRefused(t *testing.T) {
	for name, encoded := range map[string]string{
		"nothing":                 "",
		"half a length":           "\x00\x00",
		"a length too long":       "\x00\x00\x00\x05\x01aV",
		"the longest length":      "\xff\xff\xff\xff\x01aV",
		"a key without value":     "\x00\x00\x00\x02\x01a",
		"a key cut short":         "\x00\x00\x00\x02\x05a",
		"an unknown type":         "\x00\x00\x00\x03\x01aZ",
		"an integer cut short":    "\x00\x00\x00\x06\x01aI\x00\x00\x00",
		"a string cut short":      "\x00\x00\x00\x08\x01aS\x00\x00\x00\x02x",
		"a longest string":        "\x00\x00\x00\x08\x01aS\xff\xff\xff\xffx",
		"an array cut short":      "\x00\x00\x00\x09\x01aA\x00\x00\x00\x02I\x00",
		"an array's unknown type": "\x00\x00\x00\x08\x01aA\x00\x00\x00\x01Z",
		"a table in a table":      "\x00\x00\x00\x09\x01aF\x00\x00\x00\x02\x05b",
	} {
		if got, _, err := ParseTable([]byte(encoded)); !errors.Is(err, ErrTable) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
		if len(encoded) > 4 && encoded[3] == byte(len(encoded)-4) && validTable([]byte(encoded[4:]), 0) {
			t.Errorf("%s: valid", name)
		}
	}
}

func TestNestingIsBoundedWhereItIsReadAndWhereItIsWritten(t *testing.T) {
	for _, nest := range []func(any) any{
		func(v any) any { return Table{"k": v} },
		func(v any) any { return []any{v} },
	} {
		var value any
		var last []byte
		for depth := 1; depth <= 40; depth++ {
			value = nest(value)
			// The outermost table is level 0.
			encoded, err := AppendTable(nil, Table{"k": value})
			if depth <= maxTableDepth {
				if err != nil {
					t.Fatalf("depth %d: %v", depth, err)
				}
				if _, _, err := ParseTable(encoded); err != nil || !validTable(encoded[4:], 0) {
					t.Fatalf("depth %d: %v", depth, err)
				}
				last = encoded
				continue
			}
			if !errors.Is(err, ErrField) {
				t.Fatalf("depth %d: %v", depth, err)
			}
		}
		// One level around the deepest: "k", its type, and what was written.
		one := append([]byte{0, 0, 0, byte(len(last) + 3)}, append([]byte("\x01kF"), last...)...)
		if _, _, err := ParseTable(one); !errors.Is(err, ErrTable) || validTable(one[4:], 0) {
			t.Fatalf("one level too deep: %v", err)
		}
	}
}

func TestWhatATableCanNotHoldIsAnErrorThatSaysWhere(t *testing.T) {
	dst := []byte("kept")
	for name, table := range map[string]Table{
		"type":  {"a": []any{1, struct{}{}}},
		"key":   {strings.Repeat("k", 256): nil},
		"uint":  {"a": uint64(1)},
		"inner": {"outer": Table{"inner": complex(1, 1)}},
	} {
		got, err := AppendTable(dst, table)
		if !errors.Is(err, ErrField) || string(got) != "kept" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if name == "inner" && !strings.Contains(err.Error(), `"inner" at "outer"`) {
			t.Errorf("the error doesn't say where: %v", err)
		}
	}
}

func TestRabbitMQsLiberties(t *testing.T) {
	// L is l; any octet but 0 is true; the first of two equal keys counts;
	// Go's int is written as l. RabbitMQ 3.10.8 takes all these (asked).
	encoded := []byte("\x00\x00\x00\x19\x01LL\x00\x00\x00\x00\x00\x00\x00\x07\x01tt\x02\x01aB\x01\x01aB\x02")
	encoded[3] = byte(len(encoded) - 4)
	got, _, err := ParseTable(encoded)
	if want := (Table{"L": int64(7), "t": true, "a": uint8(1)}); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %v, %v", got, err)
	}
	if f, ok := RawTable(encoded[4:]).Lookup("a"); !ok || f.Bytes[0] != 1 {
		t.Fatalf("Lookup found %v", f)
	}
	a, _ := AppendTable(nil, Table{"n": 5})
	b, _ := AppendTable(nil, Table{"n": int64(5)})
	if !bytes.Equal(a, b) {
		t.Fatalf("%q, %q", a, b)
	}
}

func TestIntegersOfAllWidthsMeanTheSame(t *testing.T) {
	for _, value := range []any{int8(-7), int16(-7), int32(-7), int64(-7), uint8(7), uint16(7), uint32(7)} {
		encoded, err := AppendTable(nil, Table{"n": value})
		if err != nil {
			t.Fatal(err)
		}
		f, ok := RawTable(encoded[4:]).Lookup("n")
		n, isInteger := f.Integer()
		if !ok || !isInteger || math.Abs(float64(n)) != 7 || (n < 0) != (reflect.ValueOf(value).CanInt()) {
			t.Errorf("%T %v: got %d", value, value, n)
		}
		if _, isText := f.Text(); isText {
			t.Errorf("%T is a text", value)
		}
	}
	if _, ok := (RawField{'S', []byte("7")}).Integer(); ok {
		t.Error("a string is an integer")
	}
}

func TestElementsOfAnArray(t *testing.T) {
	encoded, err := AppendTable(nil, Table{"CC": []any{"a", "b", int32(1), "c"}, "x": "y"})
	if err != nil {
		t.Fatal(err)
	}
	f, _ := RawTable(encoded[4:]).Lookup("CC")
	var got []string
	f.Elements(func(e RawField) bool {
		if s, ok := e.Text(); ok {
			got = append(got, string(s))
		}
		return len(got) < 2
	})
	if !reflect.DeepEqual(got, []string{"a", "b"}) {
		t.Errorf("got %q", got)
	}
	f, _ = RawTable(encoded[4:]).Lookup("x")
	f.Elements(func(RawField) bool { t.Error("a string has elements"); return true })
	if _, ok := RawTable(encoded[4:]).Lookup("nothing"); ok {
		t.Error("found nothing")
	}
}
