package amqp

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestErrorsCarryTheReplyNameAndWhatTheyClose(t *testing.T) {
	for _, c := range []struct {
		err        *Error
		text       string
		connection bool
	}{
		{NotFound("no queue '%s' in vhost '%s'", "q", "/"), "NOT_FOUND - no queue 'q' in vhost '/'", false},
		{AccessRefused("x"), "ACCESS_REFUSED - x", false},
		{ResourceLocked("x"), "RESOURCE_LOCKED - x", false},
		{PreconditionFailed("unknown delivery tag %d", 7), "PRECONDITION_FAILED - unknown delivery tag 7", false},
		{NoRoute("x"), "NO_ROUTE - x", false},
		{ConnectionForced("x"), "CONNECTION_FORCED - x", true},
		{FrameError("x"), "FRAME_ERROR - x", true},
		{ChannelError("expected 'channel.open'"), "CHANNEL_ERROR - expected 'channel.open'", true},
		{NotAllowed("x"), "NOT_ALLOWED - x", true},
		{NotImplemented("immediate=true"), "NOT_IMPLEMENTED - immediate=true", true},
	} {
		if c.err.Text != c.text || c.err.Connection != c.connection {
			t.Errorf("got %+v, want %q, connection %t", c.err, c.text, c.connection)
		}
		var e *Error
		if err := error(c.err); !errors.As(err, &e) || !strings.HasSuffix(err.Error(), c.text) {
			t.Errorf("as an error: %v", err)
		}
	}
}

func TestRabbitMQsFatalityOfEveryCode(t *testing.T) {
	constructors := []func(string, ...any) *Error{
		ContentTooLarge, NoRoute, NoConsumers, ConnectionForced, InvalidPath, AccessRefused, NotFound, ResourceLocked,
		PreconditionFailed, FrameError, SyntaxError, CommandInvalid, ChannelError, UnexpectedFrame, ResourceError,
		NotAllowed, NotImplemented, InternalError,
	}
	for _, make := range constructors {
		e := make("x")
		soft := e.Code >= 311 && e.Code <= 313 || e.Code >= 403 && e.Code <= 406
		if e.Connection == soft || ReplyName(e.Code) == "" {
			t.Errorf("%d: connection %t, name %q", e.Code, e.Connection, ReplyName(e.Code))
		}
	}
}

func TestReplyTextsFitAShortStringAndEndOnARune(t *testing.T) {
	for n := 200; n < 300; n++ {
		for _, rune := range []string{"a", "é", "本", "🐇", "\x80", "\xff"} {
			e := NotFound("%s%s", strings.Repeat("x", n%7), strings.Repeat(rune, n))
			if len(e.Text) > 255 {
				t.Fatalf("%d bytes", len(e.Text))
			}
			if rune != "\x80" && rune != "\xff" && !utf8.ValidString(e.Text) {
				t.Fatalf("cut within a rune: %q", e.Text[240:])
			}
			if len(e.Text) < 249 && len(e.Text) != len("NOT_FOUND - ")+n%7+n*len(rune) {
				t.Fatalf("cut too early: %d bytes", len(e.Text))
			}
		}
	}
	if got := TruncateText(strings.Repeat("a", 256)); got != strings.Repeat("a", 252)+"..." {
		t.Errorf("got %q", got)
	}
	if got := TruncateText(strings.Repeat("a", 255)); len(got) != 255 || strings.HasSuffix(got, "...") {
		t.Errorf("a text that fits was cut: %q", got)
	}
}

func TestACopyNamesTheMethodOrTheConnection(t *testing.T) {
	e := AccessRefused("Login was refused")
	closing := e.OnConnection().At(IDConnectionStartOk)
	if e.Connection || e.Class != 0 {
		t.Errorf("the original changed: %+v", e)
	}
	if !closing.Connection || closing.Class != 10 || closing.Method != 11 {
		t.Errorf("got %+v", closing)
	}
	if m := closing.ConnectionClose(); m.ReplyCode != 403 || m.ReplyText != e.Text || m.ClassID != 10 || m.MethodID != 11 {
		t.Errorf("got %+v", m)
	}
	if m := e.At(IDQueueBind).ChannelClose(); m.ReplyCode != 403 || m.ClassID != 50 || m.MethodID != 20 {
		t.Errorf("got %+v", m)
	}
}
