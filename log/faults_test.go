package log

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tidwall/wal"
)

// faultFiles is the operating system's files with a hook before every step,
// and a memory of what is durable, from which it makes the directory as a
// power failure may leave it.
type faultFiles struct {
	osFiles
	dir string

	mu struct {
		sync.Mutex
		// before is called before each step with its name and path. An error is
		// the step's.
		before  func(step, path string) error
		synced  map[string]int64  // bytes of a file that are durable
		listed  map[string]bool   // segments whose name is durable
		removed map[string][]byte // files whose removal is not durable yet
		renamed map[string]string // to → from, likewise
	}
}

func newFaultFiles(dir string) *faultFiles {
	f := &faultFiles{dir: dir}
	f.mu.synced, f.mu.listed = map[string]int64{}, map[string]bool{}
	f.mu.removed, f.mu.renamed = map[string][]byte{}, map[string]string{}
	return f
}

func (f *faultFiles) step(name, path string, do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.before != nil {
		if err := f.mu.before(name, path); err != nil {
			return err
		}
	}
	return do()
}

func (f *faultFiles) hook(before func(step, path string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.before = before
}

func (f *faultFiles) openWAL(dir string, segmentBytes int) (appender, error) {
	a, err := f.osFiles.openWAL(dir, segmentBytes)
	return &faultAppender{a, f, dir}, err
}

// faultAppender is a step before every write.
type faultAppender struct {
	appender
	files *faultFiles
	dir   string
}

func (a *faultAppender) WriteBatch(b *wal.Batch) error {
	return a.files.step("write", a.dir, func() error { return a.appender.WriteBatch(b) })
}

func (f *faultFiles) sync(file *os.File) error {
	return f.step("sync", file.Name(), func() error {
		info, err := file.Stat()
		if err == nil {
			f.mu.synced[f.relative(file.Name())] = info.Size()
		}
		return err // the test's disk needs no real fsync
	})
}

func (f *faultFiles) syncDir(dir string) error {
	return f.step("syncdir", dir, func() error {
		for path := range f.mu.removed {
			if filepath.Dir(filepath.Join(f.dir, path)) == dir {
				delete(f.mu.removed, path)
			}
		}
		for to := range f.mu.renamed {
			if filepath.Dir(filepath.Join(f.dir, to)) == dir {
				delete(f.mu.renamed, to)
			}
		}
		names, err := os.ReadDir(dir)
		for _, n := range names {
			f.mu.listed[f.relative(filepath.Join(dir, n.Name()))] = true
		}
		return err
	})
}

func (f *faultFiles) rename(from, to string) error {
	return f.step("rename", to, func() error {
		f.mu.synced[f.relative(to)] = f.mu.synced[f.relative(from)]
		f.mu.renamed[f.relative(to)] = f.relative(from)
		return os.Rename(from, to)
	})
}

func (f *faultFiles) remove(path string) error {
	return f.step("remove", path, func() error {
		b, err := os.ReadFile(path)
		if err == nil {
			f.mu.removed[f.relative(path)] = b
		}
		return os.Remove(path)
	})
}

func (f *faultFiles) truncate(path string, size int64) error {
	return f.step("truncate", path, func() error { return os.Truncate(path, size) })
}

func (f *faultFiles) relative(path string) string {
	r, err := filepath.Rel(f.dir, path)
	if err != nil {
		panic(err)
	}
	return r
}

// crash copies the directory as a killed process leaves it. REQUIRES: mu held.
func (f *faultFiles) crash(t testing.TB, to string) {
	t.Helper()
	err := filepath.WalkDir(f.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		target := filepath.Join(to, f.relative(path))
		return errors.Join(os.MkdirAll(filepath.Dir(target), dirPerms), os.WriteFile(target, b, filePerms))
	})
	if err != nil {
		t.Error(err)
	}
}

// powerFailure does to a copy what the loss of all that is not durable may do
// to it: any unsynced byte may be lost, or be zero or garbage; a removal or a
// rename may not have happened; a new name may be gone. REQUIRES: mu held, or
// the log stopped.
func (f *faultFiles) powerFailure(t testing.TB, dir string, random *rand.Rand) {
	t.Helper()
	for to, from := range f.mu.renamed {
		if random.IntN(2) == 0 {
			_ = os.Rename(filepath.Join(dir, to), filepath.Join(dir, from))
		}
	}
	for path, b := range f.mu.removed {
		if random.IntN(2) == 0 {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), dirPerms); err != nil {
				t.Error(err)
			}
			mustWrite(t, filepath.Join(dir, path), b)
		}
	}
	segments := segmentFiles(t, dir)
	newest := segments[len(segments)-1]
	if relative, _ := filepath.Rel(dir, newest); !f.mu.listed[relative] && len(segments) > 1 && random.IntN(2) == 0 {
		if err := os.Remove(newest); err != nil {
			t.Error(err)
		}
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		relative, _ := filepath.Rel(dir, path)
		if strings.HasPrefix(relative, segmentsName) && path != newest {
			return nil // the library syncs a segment before it begins another
		}
		if _, was := f.mu.removed[relative]; was {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		synced := int(f.mu.synced[relative])
		if len(b) <= synced {
			return nil
		}
		return os.WriteFile(path, lose(b, synced, random), filePerms)
	})
	if err != nil {
		t.Error(err)
	}
}

// lose spoils the bytes of b from synced on.
func lose(b []byte, synced int, random *rand.Rand) []byte {
	at := synced + random.IntN(len(b)-synced+1)
	switch random.IntN(5) {
	case 0: // all is there
	case 1:
		b = b[:at]
	case 2:
		clear(b[at:])
	case 3:
		for k := range b[at:] {
			b[at+k] = byte(random.Uint32())
		}
	case 4: // a page in the middle was not written
		clear(b[at:min(len(b), at+1+random.IntN(512))])
	}
	return b
}

// fastFiles is osFiles without the cost of fsync, for tests of much data.
type fastFiles struct{ osFiles }

func (fastFiles) sync(*os.File) error  { return nil }
func (fastFiles) syncDir(string) error { return nil }

func openFaulty(t testing.TB, dir string, o Options) (*Log, *faultFiles) {
	t.Helper()
	if o.SegmentBytes == 0 {
		o.SegmentBytes = small
	}
	f := newFaultFiles(dir)
	l, err := open(dir, o, f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, f
}
