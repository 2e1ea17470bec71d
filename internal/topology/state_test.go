package topology

import (
	"bytes"
	"testing"
)

func TestNewStateComesBackFromItsCheckpoint(t *testing.T) {
	var b, c bytes.Buffer
	if err := New().Checkpoint(&b); err != nil {
		t.Fatal(err)
	}
	s, err := Restore(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Checkpoint(&c); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), c.Bytes()) {
		t.Fatalf("a restored state's checkpoint differs:\n%q\n%q", b.Bytes(), c.Bytes())
	}
	if !s.VerifyPassword("guest", "guest") || s.VerifyPassword("guest", "Guest") || s.VerifyPassword("other", "guest") || s.VerifyPassword("other", "") {
		t.Fatal("guest's password isn't guest")
	}
}
