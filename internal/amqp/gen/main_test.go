package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestTheCommittedFileIsWhatTheGeneratorMakes(t *testing.T) {
	want, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join("..", output))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%s is not what the generator makes: run go generate in internal/amqp", output)
	}
}

func TestRabbitMQsExtensionsAreAddedToAnXMLWithoutThem(t *testing.T) {
	s, err := readSpec()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.complete(); err != nil {
		t.Fatal(err)
	}
	full, err := render(s)
	if err != nil {
		t.Fatal(err)
	}

	bare, err := readSpec()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range extensions {
		c := bare.class(e.Name)
		var kept []method
		for _, m := range c.Methods {
			if extension := (&class{Methods: e.Methods}); !extension.has(m.Name) {
				kept = append(kept, m)
			}
		}
		c.Methods = kept
	}
	if err := bare.complete(); err != nil {
		t.Fatal(err)
	}
	again, err := render(bare)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := sortedLines(full), sortedLines(again); !bytes.Equal(a, b) {
		t.Fatal("the extensions that the generator knows differ from those of the XML")
	}
}

// sortedLines compares files whose methods are in another order.
func sortedLines(b []byte) []byte {
	lines := bytes.Split(b, []byte("\n"))
	for i, line := range lines {
		lines[i] = bytes.Join(bytes.Fields(line), []byte(" "))
	}
	slices.SortFunc(lines, bytes.Compare)
	return bytes.Join(lines, []byte("\n"))
}
