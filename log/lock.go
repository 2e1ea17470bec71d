//go:build unix

package log

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

const lockName = "lock"

// lockDirectory takes the data directory's lock, which the kernel gives back
// when the process dies. shared is for readers of a stopped log; for them a
// directory that was never locked is unlocked.
func lockDirectory(dir string, shared bool) (*os.File, error) {
	path, how := filepath.Join(dir, lockName), syscall.LOCK_EX
	flags := os.O_CREATE | os.O_RDWR
	if shared {
		how, flags = syscall.LOCK_SH, os.O_RDONLY
	}
	f, err := os.OpenFile(path, flags, filePerms)
	if shared && errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("log: lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s", ErrLocked, dir)
		}
		return nil, fmt.Errorf("log: lock %s: %w", path, err)
	}
	return f, nil
}
