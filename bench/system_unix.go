//go:build unix

package bench

import (
	"fmt"
	"io/fs"
	"syscall"
)

// diskBytes counts allocated blocks: a preallocated file counts in full, a
// sparse one only where it was written.
func diskBytes(info fs.FileInfo) int64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Blocks * 512
	}
	return info.Size()
}

// raiseFileLimit lets this process, and the brokers that it starts, open n
// files. Above the hard limit that takes a privilege.
func raiseFileLimit(n uint64) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("bench: file limit: %w", err)
	}
	if limit.Cur >= n {
		n = limit.Cur // set it all the same: Go passes on only what was set
	}
	raised := syscall.Rlimit{Cur: n, Max: max(n, limit.Max)}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised); err != nil {
		return fmt.Errorf("bench: raise the file limit from %d to %d (try `ulimit -n`): %w", limit.Max, n, err)
	}
	return nil
}
