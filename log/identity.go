package log

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const identityName = "incarnation"

// loadIdentity reads the incarnation of a data directory, 0 if it has none.
func loadIdentity(dir string) (uint64, error) {
	path := filepath.Join(dir, identityName)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	text := strings.TrimSuffix(string(b), "\n")
	id, err := strconv.ParseUint(text, 16, 64)
	if err != nil || id == 0 || len(text) != 16 {
		return 0, &DamagedError{File: path, Reason: fmt.Sprintf("%q is not an incarnation of 16 hexadecimal digits", text)}
	}
	return id, nil
}

// makeIdentity draws the incarnation of a new data directory and writes it.
func makeIdentity(files files, dir string) (uint64, error) {
	var id uint64
	for id == 0 {
		var b [8]byte
		if _, err := rand.Read(b[:]); err != nil {
			return 0, err
		}
		id = binary.LittleEndian.Uint64(b[:])
	}
	return id, writeAtomically(files, filepath.Join(dir, identityName), fmt.Appendf(nil, "%016x\n", id))
}
