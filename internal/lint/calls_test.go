package lint

import (
	"go/ast"
	"strconv"
	"strings"
	"testing"
)

// A call that has no place in some files.
type banned struct {
	pkg, name string // name "*" is any that starts with prefix
	prefix    string
	where     func(source) bool
	why       string
}

// programs talk to a person and may print and exit.
var programs = []string{"cli", "bench", "internal/amqp/gen", "internal/launch/with", "internal/lint"}

func everywhere(source) bool     { return true }
func inTests(s source) bool      { return s.test }
func inProduction(s source) bool { return !s.test }
func outsidePrograms(s source) bool {
	return !s.test && !within(s.room, programs...) && s.file.Name.Name != "main"
}
func outsideMain(s source) bool { return !s.test && s.file.Name.Name != "main" }

var calls = []banned{
	{pkg: "time", name: "Sleep", where: inTests, why: "wait for what you wait for, or use synctest"},
	{pkg: "fmt", name: "*", prefix: "Print", where: outsidePrograms, why: "use the injected logger or a writer"},
	{pkg: "os", name: "Exit", where: outsideMain, why: "return an error; only main exits"},
	{pkg: "log", name: "*", prefix: "Fatal", where: everywhere, why: "return an error; only main exits"},
	{pkg: "log", name: "*", prefix: "Print", where: inProduction, why: "use the injected *slog.Logger"},
	{pkg: "runtime", name: "SetFinalizer", where: everywhere, why: "who opens closes"},
}

// pureCalls have no place in rooms that take time as an argument.
var pureCalls = []banned{
	{pkg: "time", name: "Now"}, {pkg: "time", name: "Since"}, {pkg: "time", name: "Sleep"},
	{pkg: "time", name: "*", prefix: "New"}, {pkg: "time", name: "After"}, {pkg: "time", name: "AfterFunc"},
}

func TestBannedCallsStayOut(t *testing.T) {
	for _, s := range sources(t) {
		imports := importNames(s)
		ast.Inspect(s.file, func(node ast.Node) bool {
			switch node := node.(type) {
			case *ast.SelectorExpr:
				checkSelector(t, s, imports, node)
			case *ast.CallExpr:
				checkPanic(t, s, node)
			case *ast.GoStmt:
				if _, isPure := pure[s.room]; isPure && !s.test {
					t.Errorf("%s: %s is pure and starts no goroutine", s.position(node), s.room)
				}
			}
			return true
		})
	}
}

// importNames is what a file calls the packages that it imports.
func importNames(s source) map[string]string {
	names := map[string]string{}
	for _, spec := range s.file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		name := imported[strings.LastIndexByte(imported, '/')+1:]
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = imported
	}
	return names
}

// standard is the import path of each package that the rules name.
var standard = map[string]string{
	"time": "time", "fmt": "fmt", "os": "os", "log": "log", "runtime": "runtime",
}

func (b banned) matches(imports map[string]string, node *ast.SelectorExpr) bool {
	identifier, ok := node.X.(*ast.Ident)
	if !ok || imports[identifier.Name] != standard[b.pkg] {
		return false
	}
	return b.name == node.Sel.Name || b.name == "*" && strings.HasPrefix(node.Sel.Name, b.prefix)
}

func checkSelector(t *testing.T, s source, imports map[string]string, node *ast.SelectorExpr) {
	t.Helper()
	for _, b := range calls {
		if b.where(s) && b.matches(imports, node) {
			t.Errorf("%s: %s.%s: %s", s.position(node), b.pkg, node.Sel.Name, b.why)
		}
	}
	if _, isPure := pure[s.room]; !isPure || s.test {
		return
	}
	for _, b := range pureCalls {
		if b.matches(imports, node) {
			t.Errorf("%s: %s.%s: %s is pure and takes time as an argument", s.position(node), b.pkg, node.Sel.Name, s.room)
		}
	}
}

// checkPanic wants a message with the values: not panic(nil), panic(err) or
// panic("").
func checkPanic(t *testing.T, s source, call *ast.CallExpr) {
	t.Helper()
	identifier, ok := call.Fun.(*ast.Ident)
	if !ok || identifier.Name != "panic" || s.test || len(call.Args) != 1 {
		return
	}
	switch argument := call.Args[0].(type) {
	case *ast.Ident:
		if argument.Name != "err" && argument.Name != "nil" {
			return
		}
		t.Errorf("%s: panic(%s): say which invariant is broken, with the values", s.position(call), argument.Name)
	case *ast.BasicLit:
		if len(argument.Value) <= 2 {
			t.Errorf("%s: panic without a message", s.position(call))
		}
	}
}
