// Package lint holds the rules about the source that no tool checks for us, as
// tests, so that they can't be skipped: which package may import which, how
// long a file and a function may be, and which calls have no place where.
package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/mirrormq/mirrormq"

// root is the repository, seen from this package's directory.
const root = "../.."

// source is one parsed Go file.
type source struct {
	path    string // slash-separated, from the root: "queue/machine.go"
	room    string // its directory: "queue", "internal/amqp"
	test    bool
	made    bool // generated: nobody reads its length
	lines   int
	file    *ast.File
	fileset *token.FileSet
}

// position is where a node is, for a message: "queue/machine.go:12".
func (s source) position(node ast.Node) string {
	return s.path + ":" + itoa(s.fileset.Position(node.Pos()).Line)
}

// sources parses every Go file of the repository.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if skip := entry.Name(); skip == "testdata" || len(skip) > 2 && skip[0] == '.' {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		s, err := parse(name)
		all = append(all, s)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func parse(name string) (source, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return source{}, err
	}
	relative, err := filepath.Rel(root, name)
	if err != nil {
		return source{}, err
	}
	fileset := token.NewFileSet()
	file, err := parser.ParseFile(fileset, name, text, parser.ParseComments)
	if err != nil {
		return source{}, err
	}
	slashed := filepath.ToSlash(relative)
	return source{
		path: slashed, room: path.Dir(slashed), file: file, fileset: fileset,
		test:  strings.HasSuffix(slashed, "_test.go"),
		made:  ast.IsGenerated(file),
		lines: strings.Count(string(text), "\n"),
	}, nil
}

// within says whether a room is one of the named ones or lies below one.
func within(room string, rooms ...string) bool {
	for _, r := range rooms {
		if room == r || strings.HasPrefix(room, r+"/") {
			return true
		}
	}
	return false
}
