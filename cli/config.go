package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/urfave/cli/v2"
	"gopkg.in/yaml.v3"
)

// readConfig sets the flags that the YAML file at path gives and neither the
// command line nor a variable has set. The file is a mapping of flag names,
// without dashes in front, to values:
//
//	data: /var/lib/mirrormq
//	max-message-size: 64MiB
//
// A key that is no flag is refused, with its line: a misspelt limit must not
// go unnoticed.
func readConfig(c *cli.Context, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fail(exitNotFound, "", "--config: %w", err)
	}
	defer func() { _ = f.Close() }()
	var document yaml.Node
	if err := yaml.NewDecoder(f).Decode(&document); err != nil {
		if errors.Is(err, io.EOF) {
			return nil // Empty, or comments only.
		}
		return usage("%s: %w", path, err)
	}
	root := document.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil
	}
	if root.Kind != yaml.MappingNode {
		return usage("%s:%d: expected lines of the form flag: value", path, root.Line)
	}
	names := configKeys(c)
	seen := map[string]int{}
	given := map[string]bool{}
	for _, name := range names {
		given[name] = c.IsSet(name)
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		if err := checkKey(path, key, value, names, seen); err != nil {
			return err
		}
		if given[key.Value] {
			continue
		}
		if err := c.Set(key.Value, value.Value); err != nil {
			return usage("%s:%d: %s %q: %w", path, value.Line, key.Value, value.Value, err)
		}
	}
	return nil
}

// configKeys are the flags that a file may set: all but the file itself.
func configKeys(c *cli.Context) []string {
	var names []string
	for _, f := range c.Command.Flags {
		if name := f.Names()[0]; name != "config" && name != "help" {
			names = append(names, name)
		}
	}
	return names
}

func checkKey(path string, key, value *yaml.Node, names []string, seen map[string]int) error {
	if !slices.Contains(names, key.Value) {
		meant := ""
		if near := nearest(key.Value, names); near != "" {
			meant = fmt.Sprintf("; did you mean %q?", near)
		}
		return fail(exitUsage, "the keys are the flags of mirrormq serve --help, without the dashes in front",
			"%s:%d: unknown key %q%s", path, key.Line, key.Value, meant)
	}
	if line, twice := seen[key.Value]; twice {
		return usage("%s:%d: %q is already set in line %d", path, key.Line, key.Value, line)
	}
	seen[key.Value] = key.Line
	if value.Kind != yaml.ScalarNode || value.Tag == "!!null" {
		return usage("%s:%d: %s needs a single value", path, value.Line, key.Value)
	}
	return nil
}
