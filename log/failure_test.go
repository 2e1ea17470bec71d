package log

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidwall/wal"
)

var errInjected = errors.New("injected")

// wantStopped checks that a log has stopped for good with an error.
func wantStopped(t *testing.T, l *Log, want error) {
	t.Helper()
	<-l.Failed()
	if !errors.Is(l.Err(), want) {
		t.Fatalf("stopped with %v, want %v", l.Err(), want)
	}
	for range 2 {
		if err := await(l, Append{Group: 1, Entries: entries(1, 1, 3, 1, 9)}); !errors.Is(err, want) {
			t.Fatalf("a later append: %v", err)
		}
	}
	if err := l.Checkpoint(1, at(1, 1), writeNothing); !errors.Is(err, want) {
		t.Fatalf("a later checkpoint: %v", err)
	}
	wantEntry(t, l, 1, 1, 1, 9) // what was written is still served
	if err := l.Close(); !errors.Is(err, want) {
		t.Fatalf("Close: %v", err)
	}
}

// After a failed Write, tidwall/wal's memory and file disagree and later
// writes succeed over the hole.
func TestAFailedWriteIsFinal(t *testing.T) {
	l, f := openFaulty(t, t.TempDir(), Options{})
	fill(t, l, 1, 1, 1, 1, 9)
	fail := true
	f.hook(func(step, _ string) error {
		if step == "write" && fail {
			fail = false // later ones would succeed
			return errInjected
		}
		return nil
	})
	if err := await(l, Append{Group: 1, Entries: entries(1, 1, 2, 1, 9)}); !errors.Is(err, errInjected) {
		t.Fatal(err)
	}
	wantStopped(t, l, errInjected)
	l = mustOpen(t, l.dir, Options{})
	wantLast(t, l, 1, 1, 1)
}

// The pages that a failed fsync was to write are marked clean: the next one
// succeeds without having written them.
func TestAFailedFsyncIsFinalAndNeverRetried(t *testing.T) {
	l, f := openFaulty(t, t.TempDir(), Options{})
	fill(t, l, 1, 1, 1, 1, 9)
	syncs := 0
	f.hook(func(step, path string) error {
		if step == "sync" && strings.Contains(path, segmentsName) {
			if syncs++; syncs == 1 {
				return errInjected
			}
		}
		return nil
	})
	if err := await(l, Append{Group: 1, Entries: entries(1, 1, 2, 1, 9)}); !errors.Is(err, errInjected) {
		t.Fatal(err)
	}
	wantStopped(t, l, errInjected)
	if syncs != 1 {
		t.Fatalf("%d fsyncs after the failed one", syncs-1)
	}
}

func TestAFullDiskStopsTheLogAndLosesNothingAcknowledged(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small tmpfs takes root")
	}
	mount := t.TempDir()
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=192k"); err != nil {
		t.Skipf("no tmpfs here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(mount, 0); err != nil {
			t.Error(err)
		}
	})
	dir := filepath.Join(mount, "log")
	l := mustOpen(t, dir, Options{SegmentBytes: 64 << 10})
	last := uint64(0)
	var err error
	for err == nil {
		if err = await(l, Append{Group: 1, Entries: entries(1, 1, last+1, 1, 3000)}); err == nil {
			last++
		}
	}
	if !errors.Is(err, syscall.ENOSPC) || last < 10 {
		t.Fatalf("after %d entries: %v", last, err)
	}
	if err := await(l, Append{Group: 1, Entries: entries(1, 1, last+1, 1, 24)}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("a later, smaller append: %v", err)
	}
	if err := l.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	// The disk is still full; the log opens to what was acknowledged.
	l = mustOpen(t, dir, Options{SegmentBytes: 64 << 10})
	_, got, _ := l.Bounds(1)
	if got.Index < last {
		t.Fatalf("opens to %d of %d", got.Index, last)
	}
	for i := uint64(1); i <= last; i++ {
		wantEntry(t, l, 1, 1, i, 3000)
	}
	if l.Stats().RepairedBytes == 0 {
		t.Fatal("no partial write was left: the test misses its point")
	}
	mustClose(t, l)
}

// shortAppender writes in a way that our cursor does not expect.
type shortAppender struct{ appender }

func (a shortAppender) WriteBatch(b *wal.Batch) error {
	b.Write(1<<60, []byte("x"))
	b.Clear()
	return nil
}

func TestALibraryThatWritesElsewhereStopsTheLog(t *testing.T) {
	l := mustOpen(t, t.TempDir(), Options{})
	fill(t, l, 1, 1, 1, 1, 9)
	if err := l.writer.do(&task{run: func() error { l.writer.wal = shortAppender{l.writer.wal}; return nil }}); err != nil {
		t.Fatal(err)
	}
	if err := await(l, Append{Group: 1, Entries: entries(1, 1, 2, 1, 9)}); err == nil || !strings.Contains(err.Error(), "bytes long") {
		t.Fatal(err)
	}
	_ = l.Close()
}

func TestAppendsThatWouldLeaveAHoleStopTheLog(t *testing.T) {
	for name, list := range map[string][]Entry{
		"past the end":     entries(1, 1, 5, 1, 9),
		"below the floor":  entries(1, 1, 2, 1, 9),
		"index zero":       entries(1, 1, 0, 1, 9),
		"not consecutive":  append(entries(1, 1, 4, 1, 9), entries(1, 1, 6, 1, 9)...),
		"not in sequence":  append(entries(1, 1, 4, 2, 9), entries(1, 1, 4, 1, 9)...),
		"a group's second": entries(2, 1, 2, 1, 9),
	} {
		t.Run(name, func(t *testing.T) {
			l := mustOpen(t, t.TempDir(), Options{})
			fill(t, l, 1, 1, 1, 3, 9)
			mustCheckpoint(t, l, 1, 1, 2, "")
			g := list[0]
			id := Append{Group: 1, Entries: list}
			if name == "a group's second" {
				id.Group = 2
			}
			if err := await(l, id); !errors.Is(err, ErrInvalidAppend) {
				t.Fatalf("%v: %v", g, err)
			}
			if err := l.Close(); !errors.Is(err, ErrInvalidAppend) {
				t.Fatal(err)
			}
		})
	}
}

// tidwall/wal's Sync holds the lock that its readers need.
func TestReadsDoNotWaitForAnFsync(t *testing.T) {
	l, f := openFaulty(t, t.TempDir(), Options{})
	fill(t, l, 1, 1, 1, 1, 9)
	syncing, release := make(chan struct{}), make(chan struct{})
	f.hook(func(step, _ string) error {
		if step == "sync" {
			close(syncing)
			<-release
		}
		return nil
	})
	defer f.hook(nil)
	done := make(chan error, 1)
	l.Append(Append{Group: 1, Entries: entries(1, 1, 2, 1, 9), Done: func(err error) { done <- err }})
	<-syncing
	wantEntry(t, l, 1, 1, 1, 9)
	wantEntry(t, l, 1, 1, 2, 9) // written, not yet durable
	wantLast(t, l, 1, 1, 2)
	select {
	case err := <-done:
		t.Fatalf("done before its fsync: %v", err)
	default:
	}
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestManyAppendsShareOneFsync(t *testing.T) {
	l, f := openFaulty(t, t.TempDir(), Options{})
	mustAppend(t, l, Append{Group: 1, Entries: entries(1, 1, 1, 1, 9)})
	syncing, release := make(chan struct{}), make(chan struct{})
	var first sync.Once
	var order []int
	f.hook(func(step, _ string) error {
		if step == "sync" {
			first.Do(func() {
				close(syncing)
				<-release
			})
		}
		return nil
	})
	var wg sync.WaitGroup
	before := l.Stats().Fsyncs
	for k := range 100 {
		wg.Add(1)
		g := Append{Group: 1, Entries: entries(1, 1, uint64(k+2), 1, 9), Done: func(err error) {
			order = append(order, k)
			if err != nil {
				t.Error(err)
			}
			wg.Done()
		}}
		l.Append(g)
		if k == 0 {
			<-syncing // the first one's fsync is under way
		}
	}
	close(release)
	wg.Wait()
	if n := l.Stats().Fsyncs - before; n != 2 {
		t.Fatalf("%d fsyncs for 1 and 99 appends", n)
	}
	for k := range order {
		if order[k] != k {
			t.Fatalf("done in order %v", order)
		}
	}
}

func TestPendingTellsSinceWhenAHangingDiskHangs(t *testing.T) {
	l, f := openFaulty(t, t.TempDir(), Options{})
	fill(t, l, 1, 1, 1, 1, 9)
	syncing, release := make(chan struct{}), make(chan struct{})
	f.hook(func(step, _ string) error {
		if step == "sync" {
			syncing <- struct{}{}
			<-release
		}
		return nil
	})
	var wg sync.WaitGroup
	before := time.Now()
	for k := range uint64(2) {
		wg.Add(1)
		l.Append(Append{Group: 1, Entries: entries(1, 1, 2+k, 1, 9), Done: func(error) { wg.Done() }})
		if k == 0 {
			<-syncing
		}
	}
	after := time.Now()
	first, ok := l.Pending()
	if !ok || first.Before(before) || first.After(after) {
		t.Fatalf("pending since %v (%v), appended between %v and %v", first, ok, before, after)
	}
	release <- struct{}{}
	<-syncing // the second one's
	if second, ok := l.Pending(); !ok || second.Before(first) || second.After(after) {
		t.Fatalf("pending since %v (%v), the first one since %v", second, ok, first)
	}
	close(release)
	wg.Wait()
	f.hook(nil)
	mustClose(t, l)
	if since, ok := l.Pending(); ok {
		t.Fatalf("nothing waits, and that since %v", since)
	}
}

func TestTheOldestOfTheQueueIsWhatTheWriterHasNotFinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, began := newQueue(1<<20, 100), time.Now()
		want := func(seconds int) {
			t.Helper()
			since, ok := q.oldest()
			if ok != (seconds >= 0) || ok && since.Sub(began) != time.Duration(seconds)*time.Second {
				t.Fatalf("since %v (%v), want second %d", since.Sub(began), ok, seconds)
			}
		}
		push := func() {
			q.push(Append{}, false)
			<-time.After(time.Second)
		}
		want(-1)
		push() // at 0
		push()
		push()
		want(0)
		items, _ := q.take(nil)
		want(0)
		push() // at 3
		q.finished(1, 0)
		want(1)
		q.finished(2, 0)
		want(3)
		_, _ = q.take(items[:0])
		q.finished(0, 0)
		want(3)
		q.finished(1, 0)
		want(-1)
	})
}

func TestAppendBlocksWhileTooMuchWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(100, 3)
		size := headerSize + 9
		one := Append{Entries: entries(1, 1, 1, 1, 9)}
		for range 2 {
			q.push(one, false)
		}
		var pushed [3]bool
		for k := range pushed {
			go func() { pushed[k] = q.push(one, false) }()
		}
		synctest.Wait()
		if n := len(q.mu.waiting); n != 2 && n != 3 {
			t.Fatalf("%d wait", n)
		}
		items, _ := q.take(nil)
		n := len(items)
		synctest.Wait()
		if len(q.mu.waiting) != 0 {
			t.Fatal("what is taken does not count")
		}
		q.finished(n, n*size)
		synctest.Wait()
		if len(q.mu.waiting) == 0 {
			t.Fatal("still blocked")
		}
		q.close()
		synctest.Wait()
		if q.push(one, false) {
			t.Fatal("pushed to a closed queue")
		}
		huge := newQueue(100, 3)
		if !huge.push(Append{Entries: entries(1, 1, 1, 1, 1000)}, false) {
			t.Fatal("a large append never gets in")
		}
	})
}

func TestClosedLogsAnswer(t *testing.T) {
	l := mustOpen(t, t.TempDir(), Options{})
	fill(t, l, 1, 1, 1, 1, 9)
	mustClose(t, l)
	mustClose(t, l)
	if err := await(l, Append{Group: 1, Entries: entries(1, 1, 2, 1, 9)}); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if err := l.Checkpoint(1, at(1, 7), writeNothing); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if err := l.Checkpoint(1, at(1, 1), writeNothing); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if _, err := l.Read(1, 1, nil); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	l.Release(1, 1)
}

func TestPolicies(t *testing.T) {
	for _, policy := range []Policy{Always, Interval, Never} {
		t.Run(fmt.Sprint(policy), func(t *testing.T) {
			if again, err := ParsePolicy(policy.String()); err != nil || again != policy {
				t.Fatal(again, err)
			}
			dir := t.TempDir()
			l, f := openFaulty(t, dir, Options{Fsync: policy, FsyncInterval: time.Millisecond})
			synced := make(chan struct{}, 100)
			f.hook(func(step, _ string) error {
				if step == "sync" {
					synced <- struct{}{}
				}
				return nil
			})
			mustAppend(t, l, Append{Group: 1, Entries: entries(1, 1, 1, 1, 9)})
			switch policy {
			case Always:
				if len(synced) != 1 {
					t.Fatal("done before its fsync")
				}
			case Interval:
				<-synced // in its time, without another append
			case Never:
				if len(synced) != 0 {
					t.Fatal("synced")
				}
			}
			for len(synced) > 0 {
				<-synced
			}
			// A vote is durable whatever the policy.
			mustAppend(t, l, Append{Group: 1, HardState: &HardState{Term: 2, Vote: 3}})
			if len(synced) == 0 {
				t.Fatal("a vote was not synced")
			}
			mustClose(t, l)
			l = mustOpen(t, dir, Options{})
			wantLast(t, l, 1, 1, 1)
		})
	}
	if _, err := ParsePolicy("sometimes"); err == nil {
		t.Fatal("no error")
	}
}

func TestCompactionStopsTheLogAtDamage(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{SlackBytes: 4 * small})
	fill(t, l, 1, 1, 1, 1, 9)
	first := segmentFiles(t, dir)[0]
	b := mustRead(t, first)
	b[len(b)-1] ^= 1 // the live entry 1
	mustWrite(t, first, b)
	for i := uint64(2); l.Err() == nil && i < 1000; i += 5 {
		if await(l, Append{Group: 1, Entries: entries(1, 1, i, 5, 1000)}) != nil {
			break
		}
		for k := range uint64(5) {
			l.Release(1, i+k)
		}
		if l.Checkpoint(1, at(1, i+4), writeNothing) != nil {
			break
		}
	}
	<-l.Failed()
	var damaged *DamagedError
	if !errors.As(l.Err(), &damaged) || damaged.File != first {
		t.Fatal(l.Err())
	}
	if err := l.Close(); !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
}
