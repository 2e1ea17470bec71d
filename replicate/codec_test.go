package replicate

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// plain is m with the fields that say nothing left out, as a decoder that knows
// no presence sees it.
func plain(m *raftpb.Message) *raftpb.Message {
	p := &raftpb.Message{
		Type: m.GetType().Enum(), From: new(m.GetFrom()), Term: new(m.GetTerm()), LogTerm: new(m.GetLogTerm()),
		Index: new(m.GetIndex()), Commit: new(m.GetCommit()), Reject: new(m.GetReject()), RejectHint: new(m.GetRejectHint()),
	}
	if len(m.GetContext()) > 0 {
		p.Context = m.GetContext()
	}
	for _, e := range m.GetEntries() {
		entry := &raftpb.Entry{Type: e.GetType().Enum(), Term: new(e.GetTerm()), Index: new(e.GetIndex())}
		if len(e.GetData()) > 0 {
			entry.Data = e.GetData()
		}
		p.Entries = append(p.Entries, entry)
	}
	return p
}

func same(t *testing.T, got, want *raftpb.Message) {
	t.Helper()
	if g, w := plain(got), plain(want); !proto.Equal(g, w) {
		t.Fatalf("got  %v\nwant %v", g, w)
	}
}

func TestAMessageForSeveralReachesEach(t *testing.T) {
	want := appendOf(7, 6, 100, 99, Entry{Term: 6, Index: 101, Payload: []byte("a")}, Entry{Term: 7, Index: 102, Kind: 2}, Entry{Term: 7, Index: 103, Payload: []byte("bc")})
	to := []uint64{1, 5, 1 << 63}
	b := AppendMessage([]byte("frame"), to, want)[5:]
	head := AppendMessageHead(nil, to, want)
	for _, e := range want.GetEntries() {
		head = append(head, e.GetData()...)
	}
	if !bytes.Equal(head, b) {
		t.Errorf("in pieces %x, at once %x", head, b)
	}
	for _, id := range to {
		m, err := ParseMessage(b, id)
		if err != nil || m.GetTo() != id {
			t.Fatalf("%d: %v, %v", id, m, err)
		}
		same(t, m, want)
	}
	if m, err := ParseMessage(b, 2); m != nil || err != nil {
		t.Errorf("member 2 got %v, %v", m, err)
	}
}

func TestAParsedPayloadIsWhereItWasReceived(t *testing.T) {
	b := AppendMessage(nil, []uint64{1}, appendOf(1, 1, 1, 1, Entry{Term: 1, Index: 2, Payload: []byte("payload")}))
	m, err := ParseMessage(b, 1)
	if err != nil {
		t.Fatal(err)
	}
	data := m.GetEntries()[0].GetData()
	if &data[0] != &b[len(b)-len("payload")] || cap(data) != len(data) {
		t.Error("the payload was copied, or can grow into what follows")
	}
}

func TestACutOffMessageIsRefused(t *testing.T) {
	m := appendOf(300, 6, 100, 99, Entry{Term: 6, Index: 101, Payload: []byte("a")}, Entry{Term: 7, Index: 102, Payload: []byte("bc")})
	m.RejectHint, m.Context = new(uint64(5)), []byte("context")
	b := AppendMessage(nil, []uint64{1, 2}, m)
	for n := range b {
		if m, err := ParseMessage(b[:n], 1); !errors.Is(err, ErrMessage) {
			t.Errorf("%d of %d bytes: %v, %v", n, len(b), m, err)
		}
	}
	if _, err := ParseMessage(append(b, 0), 1); !errors.Is(err, ErrMessage) {
		t.Error("with a byte too many:", err)
	}
}

// FuzzCodec holds the encoding against protobuf's in both directions: whatever
// message protobuf knows and members may send comes out as it went in; and
// whatever bytes this decoder takes are a message that comes out again.
func FuzzCodec(f *testing.F) {
	for _, m := range []*raftpb.Message{
		appendOf(1, 1, 1, 1, Entry{Term: 1, Index: 2, Payload: []byte("x")}, Entry{Term: 1, Index: 3, Kind: 1}),
		{Type: raftpb.MsgAppResp.Enum(), From: new(uint64(2)), Index: new(uint64(9)), Reject: new(true), RejectHint: new(uint64(4)), LogTerm: new(uint64(3))},
		{Type: raftpb.MsgVote.Enum(), From: new(uint64(2)), Term: new(uint64(1 << 40)), Context: []byte("CampaignTransfer")},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint64(1), uint64(2))
		f.Add(AppendMessage(nil, []uint64{1, 2}, m), uint64(1), uint64(2))
	}
	f.Fuzz(func(t *testing.T, b []byte, one, other uint64) {
		if m := new(raftpb.Message); proto.Unmarshal(b, m) == nil && sendable(m) == nil {
			ours := AppendMessage(nil, []uint64{other, one}, m)
			got, err := ParseMessage(ours, one)
			if err != nil {
				t.Fatal(err)
			}
			same(t, got, m)
		}
		parsed, err := ParseMessage(b, one)
		if err != nil && !errors.Is(err, ErrMessage) || err == nil && parsed != nil && sendable(parsed) != nil {
			t.Fatal(parsed, err)
		}
		if parsed == nil {
			return
		}
		theirs, err := proto.Marshal(parsed)
		if err != nil {
			t.Fatal(err)
		}
		again := new(raftpb.Message)
		if err := proto.Unmarshal(theirs, again); err != nil {
			t.Fatal(err)
		}
		got, err := ParseMessage(AppendMessage(nil, []uint64{one}, again), one)
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, parsed)
	})
}

func FuzzParseMembers(f *testing.F) {
	f.Add(AppendMembers(nil, Members{Voters: []uint64{1, 2, 3}, Learners: []uint64{1 << 63}, AutoLeave: true}))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, rest, err := ParseMembers(b)
		if err != nil {
			if !errors.Is(err, ErrMembers) {
				t.Fatal(err)
			}
			return
		}
		again, more, err := ParseMembers(AppendMembers(nil, m))
		if err != nil || len(more) > 0 || fmt.Sprint(again) != fmt.Sprint(m) || len(rest) > len(b) {
			t.Fatalf("%+v becomes %+v, %d bytes left, %v", m, again, len(more), err)
		}
	})
}

func TestAppendsThatMirrorsNeedAlikeAreOneEnvelope(t *testing.T) {
	message := func(to, index uint64, entries int, commit uint64) *raftpb.Message {
		m := appendOf(3, 3, index, commit)
		m.To = &to
		for i := range entries {
			m.Entries = append(m.Entries, fromLog(Entry{Term: 3, Index: index + 1 + uint64(i)}))
		}
		return m
	}
	beat := func(to, commit uint64) *raftpb.Message {
		return &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), To: &to, From: new(uint64(2)), Term: new(uint64(3)), Commit: &commit}
	}
	vote := &raftpb.Message{Type: raftpb.MsgVote.Enum(), To: new(uint64(4)), From: new(uint64(2)), Term: new(uint64(3))}
	var envelopes []Envelope
	for _, c := range []struct {
		name     string
		messages []*raftpb.Message
		want     string
	}{
		{"the same entries", []*raftpb.Message{message(1, 5, 2, 4), message(3, 5, 2, 4), message(4, 5, 2, 5)}, "[1 3 4] 5+2 commit 5"},
		{"others", []*raftpb.Message{message(1, 5, 2, 4), message(3, 5, 1, 4), message(4, 4, 2, 4)}, "[1] 5+2 commit 4, [3] 5+1 commit 4, [4] 4+2 commit 4"},
		{"two appends for each", []*raftpb.Message{message(1, 5, 2, 4), message(1, 7, 1, 4), message(3, 5, 2, 4), message(3, 7, 1, 4)},
			"[1 3] 5+2 commit 4, [1 3] 7+1 commit 4"},
		{"nothing overtakes", []*raftpb.Message{message(1, 5, 2, 4), message(3, 7, 1, 4), message(3, 5, 2, 4)},
			"[1] 5+2 commit 4, [3] 7+1 commit 4, [3] 5+2 commit 4"},
		{"a member gets both of two that are alike", []*raftpb.Message{message(1, 5, 0, 4), message(1, 5, 0, 4)}, "[1] 5+0 commit 4, [1] 5+0 commit 4"},
		{"heartbeats of one commit", []*raftpb.Message{beat(1, 4), beat(3, 3), beat(4, 4)}, "[1 4] 0+0 commit 4, [3] 0+0 commit 3"},
		{"votes", []*raftpb.Message{vote, vote}, "[4] 0+0 commit 0, [4] 0+0 commit 0"},
		{"nothing", nil, ""},
	} {
		envelopes = Group(envelopes[:0], c.messages)
		var got []byte
		for i, e := range envelopes {
			if i > 0 {
				got = append(got, ", "...)
			}
			got = fmt.Appendf(got, "%v %d+%d commit %d", e.To, e.Message.GetIndex(), len(e.Message.GetEntries()), e.Message.GetCommit())
		}
		if string(got) != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// BenchmarkCodec is one append of entries for two mirrors: encoded once, decoded
// once (each mirror does).
func BenchmarkCodec(b *testing.B) {
	for _, c := range []struct{ entries, size int }{{1, 100}, {1, 1 << 10}, {1, 64 << 10}, {16, 64 << 10}, {1000, 100}} {
		m := appendOf(7, 7, 1000, 999)
		for i := range c.entries {
			m.Entries = append(m.Entries, fromLog(Entry{Term: 7, Index: 1001 + uint64(i), Payload: make([]byte, c.size)}))
		}
		to := []uint64{1, 2}
		buffer := AppendMessage(nil, to, m)
		b.Run(fmt.Sprintf("append/%dx%d", c.entries, c.size), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(buffer)))
			for b.Loop() {
				buffer = AppendMessage(buffer[:0], to, m)
			}
		})
		b.Run(fmt.Sprintf("head/%dx%d", c.entries, c.size), func(b *testing.B) {
			var head []byte
			b.ReportAllocs()
			for b.Loop() {
				head = AppendMessageHead(head[:0], to, m)
			}
		})
		b.Run(fmt.Sprintf("parse/%dx%d", c.entries, c.size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseMessage(buffer, 2); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("protobuf/%dx%d", c.entries, c.size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				encoded, err := proto.Marshal(m)
				if err != nil {
					b.Fatal(err)
				}
				if err := proto.Unmarshal(encoded, new(raftpb.Message)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
