package log

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/mirrormq/mirrormq/internal/entry"
)

const (
	checkpointMagic      = "MQCKP\x00\x00\x01"
	checkpointHeaderSize = int64(len(checkpointMagic)) + 4 + 8 + 8
	checkpointTailSize   = replacementSize + 8 + 4
	replacementSize      = int64(8 + 8)
	checkpointSuffix     = ".checkpoint"
	temporarySuffix      = ".tmp"
	checkpointBuffer     = 256 << 10
)

// checkpoint is what a checkpoint file says of itself.
type checkpoint struct {
	path     string
	group    entry.GroupID
	at       entry.Position
	replaced []replacement
	size     int64 // of the state
}

func checkpointName(g entry.GroupID, at entry.Position) string {
	return fmt.Sprintf("%010d-%020d-%020d%s", g, at.Index, at.Term, checkpointSuffix)
}

// Checkpoint writes a group's state at a position to a file (checksum, fsync,
// rename, directory fsync) and then raises the floor to it; the previous
// checkpoint is kept until then. Blocks for as long as write and the disk
// take; for a background goroutine. A checkpoint beyond the log's last entry,
// or at odds with its term there, replaces the log: what the group holds past
// its commit is discarded, what Refill has brought takes its place, and nothing
// may be appended to the group until Checkpoint has returned; then Retain is due.
func (l *Log) Checkpoint(id entry.GroupID, at entry.Position, write func(io.Writer) error) error {
	l.writer.checkpointing.Lock() // one at a time, of whatever group
	defer l.writer.checkpointing.Unlock()
	if err := l.failure.get(); err != nil {
		return err
	}
	if l.queue.isClosed() {
		return ErrClosed
	}
	_, continues, err := l.replacementFor(id, at)
	if err != nil {
		return err
	}
	c := checkpoint{group: id, at: at}
	c.path = filepath.Join(l.dir, checkpointsName, checkpointName(id, at))
	out, err := c.begin(write)
	if err == nil && continues {
		err = l.follow(&c, out)
	} else if err == nil {
		err = l.install(&c, out)
	}
	if err != nil {
		return fmt.Errorf("log: checkpoint of group %d at %v: %w", id, at, err)
	}
	l.maintainer.kick()
	return l.removeCheckpoints(id, c.path)
}

// follow finishes a checkpoint that continues the group's log.
func (l *Log) follow(c *checkpoint, out *summingWriter) error {
	// A checkpoint that outlives the bodies below it would hide their loss.
	err := l.writer.do(&task{run: func() error { return nil }})
	if err != nil {
		return out.abandon(err)
	}
	if c.replaced, _, err = l.replacementFor(c.group, c.at); err != nil {
		return out.abandon(err)
	}
	if err := c.finish(l.files, out); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.follow(l.mu.group(c.group), c.at, c.replaced)
	return nil
}

// install finishes a checkpoint that takes the place of the group's log. The
// compaction waits meanwhile: moved, an entry that is being replaced would be
// newer than the replacement says, and come back at the next opening.
func (l *Log) install(c *checkpoint, out *summingWriter) error {
	l.maintainer.compacting.Lock()
	defer l.maintainer.compacting.Unlock()
	continues := false
	err := l.writer.do(&task{run: func() (err error) { // after all that was appended before
		c.replaced, continues, err = l.replacementFor(c.group, c.at)
		return err
	}})
	if err != nil {
		return out.abandon(err)
	}
	if err := c.finish(l.files, out); err != nil {
		return err
	}
	return l.writer.do(&task{run: func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if g := l.mu.group(c.group); continues {
			l.mu.follow(g, c.at, c.replaced)
		} else {
			l.mu.replace(g, c.at, c.replaced)
			g.writeLast = c.at.Index
		}
		return nil
	}})
}

// replacementFor decides whether a checkpoint at a position continues the
// group's log, and what it replaces if not, after the replacements of before.
// They are carried on for as long as a record that they concern may be on disk.
func (l *Log) replacementFor(id entry.GroupID, at entry.Position) (replaced []replacement, continues bool, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	g := l.mu.groups[id]
	if g == nil {
		g = newGroup(id)
	}
	if at.Index < g.floor.Index || at.Index == g.floor.Index && at != g.floor {
		return nil, false, fmt.Errorf("log: checkpoint of group %d at %v lies behind its floor %v", id, at, g.floor)
	}
	from := uint64(math.MaxUint64)
	if term, ok := g.term(at.Index); ok && term == at.Term {
		continues = true
	} else {
		from = min(g.committed(), at.Index) + 1
	}
	for _, r := range g.replaced {
		if r.before > l.mu.segments[0].first && r.from < from {
			replaced = append(replaced, r)
		}
	}
	if !continues {
		tail := l.mu.tail()
		replaced = append(replaced, replacement{from: from, before: tail.first + tail.count})
	}
	return replaced, continues, nil
}

// begin writes the file's head and the state, under a temporary name.
func (c *checkpoint) begin(write func(io.Writer) error) (*summingWriter, error) {
	f, err := os.OpenFile(c.path+temporarySuffix, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, filePerms)
	if err != nil {
		return nil, err
	}
	out := &summingWriter{file: f, out: bufio.NewWriterSize(f, checkpointBuffer)}
	if err := c.encodeState(out, write); err != nil {
		return nil, out.abandon(err)
	}
	return out, nil
}

// finish writes the file's tail, and has the checkpoint take effect.
func (c *checkpoint) finish(files files, out *summingWriter) error {
	err := c.encodeTail(out)
	if err == nil {
		err = files.sync(out.file)
	}
	if err != nil {
		return out.abandon(err)
	}
	if err := out.file.Close(); err != nil {
		return errors.Join(err, os.Remove(out.file.Name()))
	}
	if err := files.rename(out.file.Name(), c.path); err != nil {
		return err
	}
	return files.syncDir(filepath.Dir(c.path))
}

func (c *checkpoint) encodeState(out *summingWriter, write func(io.Writer) error) error {
	b := binary.LittleEndian.AppendUint32([]byte(checkpointMagic), uint32(c.group))
	b = binary.LittleEndian.AppendUint64(b, c.at.Term)
	b = binary.LittleEndian.AppendUint64(b, c.at.Index)
	if _, err := out.Write(b); err != nil {
		return err
	}
	if err := write(out); err != nil {
		return err
	}
	c.size = out.n - checkpointHeaderSize
	return nil
}

func (c *checkpoint) encodeTail(out *summingWriter) error {
	var b []byte
	if len(c.replaced) == 0 {
		b = make([]byte, replacementSize) // one that says nothing
	}
	for _, r := range c.replaced {
		b = binary.LittleEndian.AppendUint64(b, r.from)
		b = binary.LittleEndian.AppendUint64(b, r.before)
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(c.size))
	if _, err := out.Write(b); err != nil {
		return err
	}
	if _, err := out.out.Write(binary.LittleEndian.AppendUint32(b[:0], out.sum)); err != nil {
		return err
	}
	return out.out.Flush()
}

// summingWriter is a checkpoint file that is being written.
type summingWriter struct {
	file *os.File
	out  *bufio.Writer
	sum  uint32
	n    int64
}

// abandon removes the file, and returns why.
func (w *summingWriter) abandon(why error) error {
	return errors.Join(why, w.file.Close(), os.Remove(w.file.Name()))
}

func (w *summingWriter) Write(b []byte) (int, error) {
	w.sum = crc32.Update(w.sum, castagnoli, b)
	w.n += int64(len(b))
	return w.out.Write(b)
}

// openCheckpointFile reads a checkpoint file as a whole, verifies it, and
// leaves the file at the state's first byte. Damage is a *DamagedError.
func openCheckpointFile(path string) (c checkpoint, f *os.File, err error) {
	f, err = os.Open(path)
	if err != nil {
		return checkpoint{}, nil, err
	}
	defer func() {
		if err != nil {
			_ = f.Close() // read-only
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return checkpoint{}, nil, err
	}
	damaged := func(offset int64, reason string) error {
		return &DamagedError{File: path, Offset: offset, Reason: reason}
	}
	if info.Size() < checkpointHeaderSize+checkpointTailSize {
		return checkpoint{}, nil, damaged(info.Size(), "checkpoint is cut off")
	}
	in := bufio.NewReaderSize(f, checkpointBuffer)
	header, tail := make([]byte, checkpointHeaderSize), make([]byte, checkpointTailSize)
	if _, err := io.ReadFull(in, header); err != nil {
		return checkpoint{}, nil, err
	}
	sum := crc32.New(castagnoli)
	sum.Write(header)
	size := info.Size() - checkpointHeaderSize - checkpointTailSize
	if _, err := io.CopyN(sum, in, size); err != nil {
		return checkpoint{}, nil, err
	}
	if _, err := io.ReadFull(in, tail); err != nil {
		return checkpoint{}, nil, err
	}
	more := size - int64(binary.LittleEndian.Uint64(tail[replacementSize:])) // bytes of replacements but the last
	sum.Write(tail[:checkpointTailSize-4])
	if sum.Sum32() != binary.LittleEndian.Uint32(tail[checkpointTailSize-4:]) || string(header[:len(checkpointMagic)]) != checkpointMagic {
		return checkpoint{}, nil, damaged(0, "checkpoint: "+errChecksum.Error())
	}
	h := header[len(checkpointMagic):]
	c = checkpoint{
		path:  path,
		group: entry.GroupID(binary.LittleEndian.Uint32(h)),
		at:    entry.Position{Term: binary.LittleEndian.Uint64(h[4:]), Index: binary.LittleEndian.Uint64(h[12:])},
		size:  size - more,
	}
	if filepath.Base(path) != checkpointName(c.group, c.at) {
		return checkpoint{}, nil, damaged(0, "checkpoint of another name")
	}
	if more < 0 || more > size || more%replacementSize != 0 {
		return checkpoint{}, nil, damaged(0, "checkpoint of another size")
	}
	b := make([]byte, more)
	if _, err := f.ReadAt(b, checkpointHeaderSize+c.size); err != nil {
		return checkpoint{}, nil, err
	}
	for b = append(b, tail[:replacementSize]...); len(b) > 0; b = b[replacementSize:] {
		if r := (replacement{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}); r.before > 0 {
			c.replaced = append(c.replaced, r)
		}
	}
	_, err = f.Seek(checkpointHeaderSize, io.SeekStart)
	return c, f, err
}

// listCheckpoints returns the paths of checkpoint files, of each group the
// newest first.
func listCheckpoints(dir string) ([]string, error) {
	names, err := os.ReadDir(filepath.Join(dir, checkpointsName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var paths []string
	for k := len(names) - 1; k >= 0; k-- { // ReadDir sorts by name
		if strings.HasSuffix(names[k].Name(), checkpointSuffix) {
			paths = append(paths, filepath.Join(dir, checkpointsName, names[k].Name()))
		}
	}
	return paths, nil
}

// removeCheckpoints removes a group's checkpoints but for one.
func (l *Log) removeCheckpoints(id entry.GroupID, keep string) error {
	paths, err := listCheckpoints(l.dir)
	if err != nil {
		return fmt.Errorf("log: checkpoint: %w", err)
	}
	for _, path := range paths {
		if path != keep && strings.HasPrefix(filepath.Base(path), checkpointName(id, entry.Position{})[:11]) {
			if err := l.files.remove(path); err != nil {
				return fmt.Errorf("log: checkpoint: %w", err)
			}
		}
	}
	return nil
}

// loadCheckpoints sets every group's floor from its newest valid checkpoint.
// One that is damaged is passed over: if the log behind it is no longer whole,
// that is found when the log is loaded.
func (r *recovery) loadCheckpoints() error {
	names, err := os.ReadDir(filepath.Join(r.dir, checkpointsName))
	if err != nil {
		return err
	}
	for _, n := range names {
		if strings.HasSuffix(n.Name(), temporarySuffix) {
			if err := r.files.remove(filepath.Join(r.dir, checkpointsName, n.Name())); err != nil {
				return err
			}
		}
	}
	paths, err := listCheckpoints(r.dir)
	if err != nil {
		return err
	}
	for _, path := range paths {
		c, f, err := openCheckpointFile(path)
		if errors.Is(err, ErrDamaged) {
			r.logger.Error("passed over a damaged checkpoint", "error", err)
			continue
		} else if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
		if r.catalog.known(c.group) == nil {
			g := r.catalog.group(c.group)
			g.replaced = c.replaced
			r.catalog.raiseFloor(g, c.at)
		}
	}
	return nil
}

// OpenCheckpoint opens a group's newest valid checkpoint, verified as a whole
// before it is handed out; ErrNoCheckpoint if there is none.
func (l *Log) OpenCheckpoint(id entry.GroupID) (at entry.Position, r io.ReadCloser, err error) {
	floor := l.Floor(id)
	if floor == (entry.Position{}) {
		return floor, nil, fmt.Errorf("%w: group %d", ErrNoCheckpoint, id)
	}
	c, f, err := openCheckpointFile(filepath.Join(l.dir, checkpointsName, checkpointName(id, floor)))
	if errors.Is(err, fs.ErrNotExist) && l.Floor(id) != floor {
		return l.OpenCheckpoint(id) // a newer one has just taken its place
	} else if err != nil {
		return entry.Position{}, nil, fmt.Errorf("log: checkpoint of group %d: %w", id, err)
	}
	return c.at, &checkpointReader{io.LimitReader(f, c.size), f}, nil
}

type checkpointReader struct {
	io.Reader
	io.Closer
}
