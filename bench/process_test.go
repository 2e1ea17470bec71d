package bench

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

func TestProcessUsageIncludesDescendants(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux's /proc")
	}
	// A shell whose child spins until it is killed.
	cmd := exec.Command("sh", "-c", "sh -c 'while :; do :; done' & echo $!; wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var child int
	defer func() {
		if process, err := os.FindProcess(child); err == nil && child > 0 {
			_ = process.Kill()
		}
		_ = cmd.Wait()
	}()
	buffer := make([]byte, 32)
	n, err := out.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	for _, digit := range buffer[:n] {
		if digit >= '0' && digit <= '9' {
			child = child*10 + int(digit-'0')
		}
	}
	deadline := time.After(10 * time.Second)
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		usage, err := ProcessUsage(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		if usage.CPU >= 50*time.Millisecond && usage.RSS > 0 && usage.PeakRSS >= usage.RSS {
			return
		}
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatalf("usage %+v of a process whose child spins", usage)
		}
	}
}

func TestProcessUsageOfAMissingProcessIsAnError(t *testing.T) {
	if _, err := ProcessUsage(1 << 30); err == nil {
		t.Error("no error")
	}
}

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
