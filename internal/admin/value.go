package admin

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"
)

// maxValueDepth bounds nested tables; the wire's own bound is lower.
const maxValueDepth = 64

// jsonTable turns an AMQP table into what encoding/json takes, whatever a
// client put into it. Never nil: RabbitMQ prints {} for no arguments.
func jsonTable(table map[string]any) map[string]any {
	out := make(map[string]any, len(table))
	for k, v := range table {
		out[k] = jsonValue(v, 0)
	}
	return out
}

// jsonValue turns an AMQP field value into JSON as RabbitMQ's management does:
// bytes as strings, times as seconds. Numbers that JSON lacks become strings.
func jsonValue(v any, depth int) any {
	if depth > maxValueDepth {
		return "…"
	}
	switch v := v.(type) {
	case nil, bool, int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64:
		return v
	case string:
		return printable(v)
	case []byte:
		return printable(string(v))
	case float32:
		return jsonFloat(float64(v))
	case float64:
		return jsonFloat(v)
	case time.Time:
		return v.Unix()
	}
	// Tables and arrays are named types of the package that decoded them.
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Map:
		out := make(map[string]any, r.Len())
		for it := r.MapRange(); it.Next(); {
			out[fmt.Sprint(it.Key().Interface())] = jsonValue(it.Value().Interface(), depth+1)
		}
		return out
	case reflect.Slice, reflect.Array:
		out := make([]any, r.Len())
		for i := range out {
			out[i] = jsonValue(r.Index(i).Interface(), depth+1)
		}
		return out
	default:
		return fmt.Sprint(v)
	}
}

func jsonFloat(f float64) any {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return fmt.Sprint(f)
	}
	return f
}

func printable(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
