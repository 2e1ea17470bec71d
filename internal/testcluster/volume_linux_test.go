package testcluster

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// volume is a file system of one broker's own, mounted at its data directory.
type volume struct {
	dir string
	// guard is a process that thaws and unmounts it when we close its standard
	// input or end, however we end: nothing can end a process that waits for a
	// frozen file system.
	guard *exec.Cmd
	end   io.Closer
	mu    struct {
		sync.Mutex
		frozen bool
	}
}

// volumeBytes is the size of a volume.
const volumeBytes = 256 << 20

// mountMemory mounts volumes that can fill up, one for each of n brokers whose
// directories are below dir.
func mountMemory(t *testing.T, dir string, n int) []*volume {
	t.Helper()
	return mountEach(t, dir, n, func(at string) error {
		return syscall.Mount("tmpfs", at, "tmpfs", 0, fmt.Sprintf("size=%d", volumeBytes))
	})
}

// mountDisks mounts volumes that can fill up, and that can hang: file systems
// of a disk, in a file beside the directory.
func mountDisks(t *testing.T, dir string, n int) []*volume {
	t.Helper()
	return mountEach(t, dir, n, func(at string) error {
		image, err := os.Create(at + ".img")
		if err != nil {
			return err
		}
		if err := errors.Join(image.Truncate(volumeBytes), image.Close()); err != nil {
			return err
		}
		for _, command := range [][]string{
			{"mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", image.Name()},
			{"mount", "-o", "loop", image.Name(), at},
		} {
			if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w: %s", command[0], err, out)
			}
		}
		return nil
	})
}

func mountEach(t *testing.T, dir string, n int, mount func(at string) error) []*volume {
	t.Helper()
	if testing.Short() {
		t.Skip("skipped: mounts file systems, with -short")
	}
	var volumes []*volume
	for i := range n {
		v := &volume{dir: filepath.Join(dir, fmt.Sprintf("b%d", i+1))}
		if err := os.MkdirAll(v.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := mount(v.dir); err != nil {
			t.Skipf("skipped: file systems can't be mounted here: %v", err)
		}
		if err := v.protect(); err != nil {
			_ = syscall.Unmount(v.dir, syscall.MNT_DETACH) // The reason is the first error.
			t.Fatal(err)
		}
		t.Cleanup(v.close)
		volumes = append(volumes, v)
	}
	return volumes
}

// protect starts the guard.
func (v *volume) protect() (err error) {
	v.guard = exec.Command("sh", "-c", `read -r _; fsfreeze --unfreeze "$0" 2>/dev/null; umount --lazy "$0"`, v.dir)
	v.guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // A Ctrl-C is not for it.
	if v.end, err = v.guard.StdinPipe(); err != nil {
		return err
	}
	return v.guard.Start()
}

// close unmounts.
func (v *volume) close() {
	v.end.Close()
	_ = v.guard.Wait() // It fails where the test's own end was faster.
}

// freeze has every write and fsync wait, without an error, until thaw, as a
// disk that hangs. What waits is done then.
func (v *volume) freeze() error { return v.turn(true) }

func (v *volume) thaw() error { return v.turn(false) }

func (v *volume) turn(frozen bool) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.mu.frozen == frozen {
		return nil
	}
	flag := map[bool]string{true: "--freeze", false: "--unfreeze"}[frozen]
	if out, err := exec.Command("fsfreeze", flag, v.dir).CombinedOutput(); err != nil {
		return fmt.Errorf("fsfreeze %s: %w: %s", flag, err, out)
	}
	v.mu.frozen = frozen
	return nil
}
