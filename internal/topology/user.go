package topology

import (
	"crypto/sha256"
	"crypto/subtle"
	"regexp"
	"slices"
)

// User is someone who can log in.
type User struct {
	Name string
	// PasswordHash is a salt and after it SHA-256 of the salt and the
	// password: what RabbitMQ's definitions have in base64. Empty where no
	// password lets the user in.
	PasswordHash []byte
	Tags         []string
}

// HasTag reports whether the user has a tag ("administrator", "monitoring", …).
func (u *User) HasTag(tag string) bool { return slices.Contains(u.Tags, tag) }

// guestSalt is constant, so that every cluster begins with the same state.
// guest's password is known to everyone anyhow: a salt would hide nothing.
const guestSalt = "mirrormq"

// HashPassword hashes a password for User.PasswordHash. Draw the salt at random
// (RabbitMQ takes 4 bytes; 16 are better).
func HashPassword(salt []byte, password string) []byte {
	sum := sha256.New()
	sum.Write(salt)
	sum.Write([]byte(password))
	return sum.Sum(slices.Clone(salt))
}

// VerifyPassword reports whether a user of the name exists and the password is
// the user's. It takes a hash (under a microsecond) and the same time whether
// or not there is such a user.
func (s *State) VerifyPassword(name, password string) bool {
	var hash []byte
	if u := s.users[name]; u != nil {
		hash = u.PasswordHash
	}
	salt := []byte(guestSalt)
	if len(hash) >= sha256.Size {
		salt = hash[:len(hash)-sha256.Size]
	}
	return subtle.ConstantTimeCompare(HashPassword(salt, password), hash) == 1
}

// Permission is what a user may do in a vhost: each a regular expression
// (RE2's syntax) that must match somewhere in a resource's name. An empty one
// matches the empty name alone, as in RabbitMQ.
type Permission struct {
	User, Vhost            string
	Configure, Write, Read string
}

// Action is what one needs a permission for.
type Action uint8

const (
	Configure Action = iota
	Write
	Read
)

// String names the action as RabbitMQ's error texts do.
func (a Action) String() string {
	switch a {
	case Configure:
		return "configure"
	case Write:
		return "write"
	}
	return "read"
}

// user is a User with the permissions.
type user struct {
	User
	permissions map[string]*permission // by vhost
}

type permission struct {
	Permission
	patterns [3]pattern // by Action
}

// pattern is a compiled regular expression.
type pattern struct {
	all        bool // ".*" and the like: no need to ask the expression
	expression *regexp.Regexp
}

func (p *pattern) matches(name string) bool { return p.all || p.expression.MatchString(name) }

func compilePattern(text string) (pattern, error) {
	switch text {
	case "":
		text = "^$"
	case ".*", "^.*$", "^.*", ".*$":
		// "." stops at a newline, and names have none (RABBITMQ.md 8).
		return pattern{all: true}, nil
	}
	expression, err := regexp.Compile(text)
	return pattern{expression: expression}, err
}

func newPermission(p Permission) (*permission, error) {
	compiled := &permission{Permission: p}
	for i, text := range []string{p.Configure, p.Write, p.Read} {
		var err error
		if compiled.patterns[i], err = compilePattern(text); err != nil {
			return nil, err
		}
	}
	return compiled, nil
}
