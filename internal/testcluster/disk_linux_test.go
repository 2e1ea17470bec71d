package testcluster

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// smallDisk is the size of each broker's file system.
const smallDisk = "size=256m"

// A broker that can't write steps down, says why and ends; the others go on.
func TestADiskIsFull(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: mounts file systems, with -short")
	}
	dir := directory(t)
	for i := range 3 {
		data := filepath.Join(dir, fmt.Sprintf("b%d", i+1))
		if err := os.MkdirAll(data, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("tmpfs", data, "tmpfs", 0, smallDisk); err != nil {
			t.Skipf("skipped: file systems can't be mounted here: %v", err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(data, syscall.MNT_DETACH) })
	}
	r := startIn(t, dir, 3, quorum("majority"), "--disk-free-limit", "1")
	for range times(1, 3) {
		r.play(DiskFull, r.leader(), time.Second)
		r.play(DiskFull, r.mirror(), time.Second)
	}
	r.judge()
}
