package topology

import (
	"bytes"
	"strings"
)

// topicNode is a node of a topic exchange's trie: a word of a pattern an edge,
// * and # edges of their own. Patterns that match the same keys can share a
// path: within a run of * and # only the number of * matters, and that there is
// a # (so "#.*", "*.#" and "#.*.#" are one).
type topicNode struct {
	leaf
	words      map[string]*topicNode
	star, hash *topicNode
}

// patternWord is an edge of the trie.
type patternWord struct {
	kind byte // '*', '#', or 0 for a word
	word string
}

// splitPattern takes a pattern apart, with each run of wildcards in its normal
// form: the stars, then at most one hash. An empty pattern has no word, as an
// empty key has none; "a." has two.
func splitPattern(pattern string) []patternWord {
	if pattern == "" {
		return nil
	}
	var path []patternWord
	hash := false
	for word := range strings.SplitSeq(pattern, ".") {
		switch word {
		case "#":
			hash = true
			continue
		case "*":
			path = append(path, patternWord{kind: '*'})
			continue
		}
		if hash {
			path = append(path, patternWord{kind: '#'})
			hash = false
		}
		path = append(path, patternWord{word: word})
	}
	if hash {
		path = append(path, patternWord{kind: '#'})
	}
	return path
}

func (n *topicNode) child(w patternWord) *topicNode {
	switch w.kind {
	case '*':
		return n.star
	case '#':
		return n.hash
	}
	return n.words[w.word]
}

func (n *topicNode) setChild(w patternWord, child *topicNode) {
	switch w.kind {
	case '*':
		n.star = child
	case '#':
		n.hash = child
	default:
		if child == nil {
			delete(n.words, w.word)
			return
		}
		if n.words == nil {
			n.words = make(map[string]*topicNode)
		}
		n.words[w.word] = child
	}
}

func (n *topicNode) insert(b *binding) {
	for _, w := range splitPattern(b.key) {
		next := n.child(w)
		if next == nil {
			next = new(topicNode)
			n.setChild(w, next)
		}
		n = next
	}
	n.leaf.add(b)
}

// remove takes b out, and the nodes that only it needed.
func (n *topicNode) remove(b *binding) {
	path := splitPattern(b.key)
	nodes := make([]*topicNode, 0, len(path)+1)
	nodes = append(nodes, n)
	for _, w := range path {
		n = n.child(w)
		nodes = append(nodes, n)
	}
	n.leaf.remove(b)
	for i := len(path) - 1; i >= 0 && nodes[i+1].bare(); i-- {
		nodes[i].setChild(path[i], nil)
	}
}

// bare reports whether nothing hangs on the node.
func (n *topicNode) bare() bool {
	return n.empty() && len(n.words) == 0 && n.star == nil && n.hash == nil
}

// match visits the leaf of every pattern that matches the walk's key.
//
// It goes through the key word by word with the set of nodes that the words so
// far lead to, as one runs a nondeterministic automaton: trying one branch
// after the other, as a recursive search does, takes exponential time on
// patterns like "#.a.#.a.#.a". A # node stays in the set for good, since it eats
// any number of words, and can be reached again with each; so those are kept
// apart. No other node comes twice: it has one parent, which is in the set once.
func (n *topicNode) match(w *walk) {
	var few, more [16]*topicNode
	current, following := append(few[:0], n), more[:0]
	var hashes smallSet[*topicNode]
	if n.hash != nil {
		hashes.add(n.hash)
	}
	for rest, left := w.key, len(w.key) > 0; left && len(current)+hashes.len() > 0; {
		var word []byte
		word, rest, left = bytes.Cut(rest, dot)
		following = following[:0]
		for _, node := range current {
			following = node.step(word, following)
		}
		for i := range hashes.len() {
			following = hashes.at(i).step(word, following)
		}
		for _, node := range following {
			if node.hash != nil {
				hashes.add(node.hash)
			}
		}
		current, following = following, current
	}
	for _, node := range current {
		node.visit(w)
	}
	for i := range hashes.len() {
		hashes.at(i).visit(w)
	}
}

var dot = []byte{'.'}

// step appends to dst the nodes that a word leads to from n.
func (n *topicNode) step(word []byte, dst []*topicNode) []*topicNode {
	if next := n.words[string(word)]; next != nil {
		dst = append(dst, next)
	}
	if n.star != nil {
		dst = append(dst, n.star)
	}
	return dst
}
