package replicate

import (
	"fmt"
	"log/slog"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/mirrormq/mirrormq/internal/entry"
)

// member is a Node with its fake log, the completions that wait for the owner,
// what it sent, and a state machine that is the list of what was applied.
type member struct {
	config      Config
	log         *fakeLog
	node        *Node
	completions []Completion
	installed   []error
	sent        []*raftpb.Message
	applied     []Entry // applied[i] has index i+1
	onApply     func(Entry)
	onSend      func(*raftpb.Message)
}

func newMember(config Config) *member {
	m := &member{config: config, log: &fakeLog{}}
	m.config.Log, m.config.Transport = m.log, m
	m.config.Notify = func(c Completion) { m.completions = append(m.completions, c) }
	m.config.Logger = slog.New(slog.DiscardHandler)
	if err := m.start(); err != nil {
		panic(err)
	}
	return m
}

// start makes the Node of what the log holds, the state machine restored from
// the checkpoint at its floor.
func (m *member) start() (err error) {
	m.completions, m.installed = nil, nil
	m.config.Applied, m.config.Members = m.log.floor, m.log.members
	m.applied = slices.Clone(m.log.machine)
	m.node, err = New(m.config)
	return err
}

func (m *member) Send(messages []*raftpb.Message) {
	for _, message := range messages {
		if m.onSend != nil {
			m.onSend(message)
		}
		m.sent = append(m.sent, proto.Clone(message).(*raftpb.Message))
	}
}

func (m *member) apply(term, index uint64, payload []byte) error {
	if index != uint64(len(m.applied)+1) {
		panic(fmt.Sprintf("member %d: entry %d applied after %d", m.config.ID, index, len(m.applied)))
	}
	e := Entry{Term: term, Index: index, Payload: payload}
	m.applied = append(m.applied, e)
	if m.onApply != nil {
		m.onApply(e)
	}
	return nil
}

// complete passes the waiting completions on.
func (m *member) complete() {
	completions := m.completions
	m.completions = nil
	for _, c := range completions {
		m.node.Completed(c)
	}
	installed := m.installed
	m.installed = nil
	for _, err := range installed {
		m.node.Installed(err)
	}
}

// checkpoint raises the floor to an applied entry.
func (m *member) checkpoint(index uint64) {
	m.log.checkpoint(m.applied[index-1].position(), m.applied, m.node.Members())
}

// install is what an owner does with a checkpoint that it has at hand.
func (m *member) install(c checkpoint) (adopted bool, err error) {
	if needed, err := m.node.Offer(c.at); err != nil || !needed {
		return false, err
	}
	if adopted, err = m.node.Install(c.at, c.members); adopted {
		m.applied = slices.Clone(c.machine)
		m.log.replace(c, func(err error) { m.installed = append(m.installed, err) })
	}
	return adopted, err
}

// advance advances until there is nothing left to do at once.
func (m *member) advance() error {
	for {
		if more, err := m.node.Advance(m.apply); err != nil || !more {
			return err
		}
	}
}

// settle syncs and advances until there is nothing left to do.
func (m *member) settle() error {
	for {
		if err := m.advance(); err != nil {
			return err
		}
		if len(m.log.waiting) == 0 && len(m.completions) == 0 && len(m.installed) == 0 {
			return nil
		}
		m.log.sync(-1)
		m.complete()
	}
}

func (m *member) position() entry.Position { return m.node.Status().Applied }

func (e Entry) position() entry.Position { return entry.Position{Term: e.Term, Index: e.Index} }
