package log

// cursor is where the next record will lie. It follows, step by step, what
// (*wal.Log).writeBatch of tidwall/wal v1.2.1 does with a batch: a segment
// ends with the record that brings it to the segment size. The writer compares
// the file's size with it after every batch, so that a library that behaves in
// another way stops the log instead of misplacing records.
type cursor struct {
	limit int64  // bytes of a segment
	first uint64 // of the newest segment
	id    uint32 // of the newest segment
	size  int64  // of the newest segment
	next  uint64 // sequence of the next record
	rolls []uint64
}

// place returns where a record of size bytes will lie, and moves on.
func (c *cursor) place(size int64) (segment uint32, first uint64, offset int64) {
	segment, first = c.id, c.first
	offset = c.size + int64(prefixLen(size))
	c.size = offset + size
	c.next++
	if c.size >= c.limit {
		c.first, c.size = c.next, 0
		c.id++
		c.rolls = append(c.rolls, c.first)
	}
	return segment, first, offset
}
