package backbone

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"sync"
)

// subjects are the names under which messages travel; see doc.go.
type subjects struct {
	prefix [classes]string
	self   uint8
	epoch  uint64
	n      int
	mu     struct {
		sync.RWMutex
		sets [classes]map[uint64]string
	}
}

func newSubjects(cluster string, names []string, self uint8, epoch uint64) *subjects {
	s := &subjects{self: self, epoch: epoch, n: len(names)}
	h := fnv.New64a()
	h.Write([]byte(strings.Join(names, "\x00")))
	for c := range s.prefix {
		s.prefix[c] = fmt.Sprintf("mirrormq.%s.%x.%s", cluster, h.Sum64(), Class(c))
		s.mu.sets[c] = map[uint64]string{}
	}
	return s
}

// subject reaches every broker of a set (bit n for broker n).
func (s *subjects) subject(c Class, set uint64) string {
	s.mu.RLock()
	subject, ok := s.mu.sets[c][set]
	s.mu.RUnlock()
	if ok {
		return subject
	}
	subject = s.tokens(c, func(n int) string { return strconv.Itoa(int(set >> n & 1)) })
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mu.sets[c]) < 1024 {
		s.mu.sets[c][set] = subject
	}
	return subject
}

// ourSubject is what we subscribe to.
func (s *subjects) ourSubject(c Class) string {
	return s.tokens(c, func(n int) string {
		if n == int(s.self) {
			return "1"
		}
		return "*"
	})
}

func (s *subjects) tokens(c Class, token func(n int) string) string {
	var b strings.Builder
	b.WriteString(s.prefix[c])
	for n := range s.n {
		b.WriteString("." + token(n))
	}
	return b.String()
}

// nobody is the reply subject on which NATS says that broker n was not there.
func (s *subjects) nobody(c Class, n uint8) string {
	return s.nobodyOf(c, strconv.Itoa(int(n)))
}

func (s *subjects) nobodySubject(c Class) string { return s.nobodyOf(c, "*") }

// nobodyOf has a class token of its own, so that no set of brokers matches it.
func (s *subjects) nobodyOf(c Class, n string) string {
	return s.prefix[c] + "-nobody." + strconv.FormatUint(s.epoch, 16) + "." + n
}

func parseNumber(s string) (uint8, bool) {
	n, err := strconv.ParseUint(s, 10, 8)
	return uint8(n), err == nil
}
