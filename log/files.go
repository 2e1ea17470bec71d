package log

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/tidwall/wal"
)

const (
	dirPerms  os.FileMode = 0o750
	filePerms os.FileMode = 0o640
)

// files is every step with which the log makes something durable or takes it
// away: where a crash can part what was done from what was not.
type files interface {
	openWAL(dir string, segmentBytes int) (appender, error)
	sync(f *os.File) error
	syncDir(dir string) error
	rename(from, to string) error
	remove(path string) error
	truncate(path string, size int64) error
}

// appender is what we use of *wal.Log. We never Read (two at once panic: they
// change the cache under a read lock) nor Truncate (it rewrites a segment
// under the lock), nor Sync (cycle and readers would wait on the lock).
type appender interface {
	WriteBatch(b *wal.Batch) error
	ClearCache() error
	Close() error
}

// osFiles is files as the operating system has them.
type osFiles struct{}

func (osFiles) openWAL(dir string, segmentBytes int) (appender, error) {
	l, err := wal.Open(dir, &wal.Options{
		NoSync:           true, // we sync our own descriptor
		SegmentSize:      segmentBytes,
		LogFormat:        wal.Binary,
		SegmentCacheSize: 1, // the least; ClearCache empties it after each roll
		NoCopy:           true,
		AllowEmpty:       true, // a new segment, or all of it cut off, is no error
		DirPerms:         dirPerms,
		FilePerms:        filePerms,
	})
	if err != nil {
		return nil, err
	}
	return withTailBuffer(l, segmentBytes), nil
}

func (osFiles) sync(f *os.File) error { return f.Sync() }

func (osFiles) syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (osFiles) rename(from, to string) error { return os.Rename(from, to) }

func (osFiles) remove(path string) error { return os.Remove(path) }

func (osFiles) truncate(path string, size int64) error { return os.Truncate(path, size) }

// writeAtomically makes a file appear at path with b in it, or not at all.
func writeAtomically(files files, path string, b []byte) error {
	temporary := path + ".tmp"
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, filePerms)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = files.sync(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", temporary, err)
	}
	if err := files.rename(temporary, path); err != nil {
		return err
	}
	return files.syncDir(filepath.Dir(path))
}
