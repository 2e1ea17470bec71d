package bench

import (
	"os"
	"path/filepath"
	"testing"
)

func TestDirectorySizeCountsTheBlocksOfAllFilesBelow(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "below"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "below/b"} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	size, err := directorySize(dir)
	if err != nil || size < 2<<20 || size > 3<<20 {
		t.Errorf("%d bytes, %v", size, err)
	}
}
