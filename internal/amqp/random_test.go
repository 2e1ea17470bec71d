package amqp

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"time"
)

// The generators of the tests' random values. A test prints its seed.

func randomText(r *rand.Rand, longest int) string {
	b := make([]byte, r.IntN(longest+1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

func randomTable(r *rand.Rand, depth int) Table {
	t := Table{}
	for range r.IntN(6) {
		t[randomText(r, 20)] = randomField(r, depth)
	}
	if r.IntN(20) == 0 {
		t[string(make([]byte, 255))] = "longest key"
	}
	return t
}

// randomField makes a value of any type that a table can hold; floats are
// never NaN, which is not equal to itself.
func randomField(r *rand.Rand, depth int) any {
	kinds := 17
	if depth == 0 {
		kinds = 15
	}
	switch r.IntN(kinds) {
	case 0:
		return nil
	case 1:
		return r.IntN(2) == 0
	case 2:
		return int8(r.Uint32())
	case 3:
		return uint8(r.Uint32())
	case 4:
		return int16(r.Uint32())
	case 5:
		return uint16(r.Uint32())
	case 6:
		return int32(r.Uint32())
	case 7:
		return r.Uint32()
	case 8:
		return int64(r.Uint64())
	case 9:
		return float32(r.NormFloat64())
	case 10:
		return r.NormFloat64()
	case 11:
		return Decimal{Scale: uint8(r.Uint32()), Value: int32(r.Uint32())}
	case 12:
		return randomText(r, 40)
	case 13:
		return []byte(randomText(r, 40))
	case 14:
		return time.Unix(int64(r.Uint64N(1<<40)), 0).UTC()
	case 15:
		return randomTable(r, depth-1)
	default:
		array := []any{}
		for range r.IntN(4) {
			array = append(array, randomField(r, depth-1))
		}
		return array
	}
}

// fillRandom sets every exported field of the struct that p points to.
func fillRandom(r *rand.Rand, p any) {
	v := reflect.ValueOf(p).Elem()
	for i := range v.NumField() {
		f := v.Field(i)
		switch value := f.Addr().Interface().(type) {
		case *string:
			*value = randomText(r, 255)
		case *bool:
			*value = r.IntN(2) == 0
		case *uint8:
			*value = uint8(r.Uint32())
		case *uint16:
			*value = uint16(r.Uint32())
		case *uint32:
			*value = r.Uint32()
		case *uint64:
			*value = r.Uint64()
		case *time.Time:
			*value = time.Unix(int64(r.Uint64N(1<<40)), 0).UTC()
		case *Table:
			*value = randomTable(r, 3)
		default:
			panic(fmt.Sprintf("no random %T", value))
		}
	}
}

// randomProperties has each property with even odds.
func randomProperties(r *rand.Rand) Properties {
	var full Properties
	fillRandom(r, &full)
	full.Present = allFlags
	present := uint16(r.Uint32()) & allFlags
	// Parsing only what is present leaves the others zero.
	partial := Properties{Present: present}
	d := decoder{rest: full.append(nil, present)}
	partial.parse(&d)
	return partial
}

// allMethods has an empty method of every id.
func allMethods() []Method {
	var all []Method
	for class := range uint32(100) {
		for method := range uint32(130) {
			if m := newMethod(MethodID(class<<16 | method)); m != nil {
				all = append(all, m)
			}
		}
	}
	return all
}
