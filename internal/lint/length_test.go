package lint

import (
	"bufio"
	"fmt"
	"go/ast"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A production file has at most maxFile lines and a function maxFunction.
// Longer ones that exist are listed in long.txt with their length, and may
// only get shorter: growing fails, and so does an entry that is no longer
// needed or could be lower. Tests are tables and may be long.
const (
	maxFile     = 500
	maxFunction = 70
	allowList   = "long.txt"
)

func TestFilesAndFunctionsStayShort(t *testing.T) {
	allowed := readAllowed(t)
	found := map[string]int{}
	for _, s := range sources(t) {
		if s.test || s.made {
			continue
		}
		if s.lines > maxFile {
			found[s.path] = s.lines
		}
		for _, declaration := range s.file.Decls {
			function, ok := declaration.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := s.functionLines(function); n > maxFunction {
				found[s.path+" "+functionName(function)] = n
			}
		}
	}
	for _, fault := range ratchet(allowed, found) {
		t.Error(fault)
	}
}

// functionLines counts from the line of "func" to that of the closing brace.
func (s source) functionLines(function *ast.FuncDecl) int {
	return s.fileset.Position(function.End()).Line - s.fileset.Position(function.Pos()).Line + 1
}

// functionName is "Name" or "Receiver.Name".
func functionName(function *ast.FuncDecl) string {
	if function.Recv == nil {
		return function.Name.Name
	}
	receiver := function.Recv.List[0].Type
	if star, ok := receiver.(*ast.StarExpr); ok {
		receiver = star.X
	}
	if generic, ok := receiver.(*ast.IndexExpr); ok {
		receiver = generic.X
	}
	return fmt.Sprintf("%s.%s", receiver, function.Name.Name)
}

// ratchet says in words what differs between the lengths that are allowed and
// those that were found.
func ratchet(allowed, found map[string]int) []string {
	var faults []string
	for what, lines := range found {
		limit, listed := allowed[what]
		switch {
		case !listed:
			faults = append(faults, fmt.Sprintf("%s has %d lines: split it (a file %d, a function %d at most)", what, lines, maxFile, maxFunction))
		case lines > limit:
			faults = append(faults, fmt.Sprintf("%s has grown from %d to %d lines: split it", what, limit, lines))
		case lines < limit:
			faults = append(faults, fmt.Sprintf("%s is down to %d lines: lower its entry in %s from %d", what, lines, allowList, limit))
		}
	}
	for what := range allowed {
		if _, needed := found[what]; !needed {
			faults = append(faults, fmt.Sprintf("%s is short or gone: remove its entry from %s", what, allowList))
		}
	}
	slices.Sort(faults)
	return faults
}

// readAllowed reads long.txt: "lines path [function]", and # comments.
func readAllowed(t *testing.T) map[string]int {
	t.Helper()
	file, err := os.Open(allowList)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	allowed := map[string]int{}
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		line := strings.TrimSpace(scanner.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		number, what, _ := strings.Cut(line, " ")
		lines, err := strconv.Atoi(number)
		if err != nil || what == "" {
			t.Fatalf("%s: malformed line %q", allowList, line)
		}
		allowed[what] = lines
	}
	return allowed
}

func TestTheRatchetOnlyTurnsOneWay(t *testing.T) {
	cases := []struct {
		name           string
		allowed, found map[string]int
		fault          string
	}{
		{"a new long file", nil, map[string]int{"a.go": 501}, "split it"},
		{"one that grew", map[string]int{"a.go": 501}, map[string]int{"a.go": 502}, "has grown"},
		{"one that shrank", map[string]int{"a.go": 510}, map[string]int{"a.go": 502}, "lower its entry"},
		{"one that is short now", map[string]int{"a.go": 510}, nil, "remove its entry"},
		{"one as listed", map[string]int{"a.go": 510}, map[string]int{"a.go": 510}, ""},
	}
	for _, c := range cases {
		faults := strings.Join(ratchet(c.allowed, c.found), "\n")
		if c.fault == "" && faults != "" || !strings.Contains(faults, c.fault) {
			t.Errorf("%s: %q, want %q", c.name, faults, c.fault)
		}
	}
}
