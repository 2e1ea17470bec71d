package broker

import (
	"testing"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

func TestCredentials(t *testing.T) {
	table, err := amqp.AppendTable(nil, amqp.Table{"LOGIN": "u", "PASSWORD": "p", "extra": int32(1)})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		mechanism, response string
		user, password      string
		known, fails        bool
	}{
		{"PLAIN", "\x00u\x00p", "u", "p", true, false},
		{"PLAIN", "\x00u\x00", "u", "", true, false},
		{"PLAIN", "\x00\x00", "", "", true, false},
		{"PLAIN", "a\x00u\x00p", "", "", true, true},
		{"PLAIN", "u\x00p", "", "", true, true},
		{"PLAIN", "\x00u\x00p\x00", "", "", true, true},
		{"PLAIN", "", "", "", true, true},
		{"AMQPLAIN", string(table[4:]), "u", "p", true, false},
		{"AMQPLAIN", string(table), "", "", true, true},
		{"AMQPLAIN", "", "", "", true, true},
		{"AMQPLAIN", "\x05LOGINS\x00\x00\x00\x01u", "", "", true, true},
		{"AMQPLAIN", "\x05LOGINI\x00\x00\x00\x01\x08PASSWORDS\x00\x00\x00\x01p", "", "", true, true},
		{"EXTERNAL", "", "", "", false, false},
		{"plain", "\x00u\x00p", "", "", false, false},
	} {
		user, password, known, err := credentials(test.mechanism, test.response)
		if user != test.user || password != test.password || known != test.known || (err != nil) != test.fails {
			t.Errorf("%s %q: %q, %q, %v, %v", test.mechanism, test.response, user, password, known, err)
		}
	}
}

func TestNegotiation(t *testing.T) {
	offer := &amqp.ConnectionTune{ChannelMax: 2047, FrameMax: 131072}
	for _, test := range []struct {
		channels     uint16
		frame        uint32
		wantChannels uint16
		wantFrame    uint32
		refused      bool
	}{
		{0, 0, 2047, 131072, false},
		{2047, 131072, 2047, 131072, false},
		{1, 4096, 1, 4096, false},
		{10, 0, 10, 131072, false},
		{2048, 4096, 0, 0, true},
		{1, 4095, 0, 0, true},
		{1, 1, 0, 0, true},
		{1, 131073, 0, 0, true},
	} {
		channels, frame, refusal := negotiate(offer, &amqp.ConnectionTuneOk{ChannelMax: test.channels, FrameMax: test.frame})
		if (refusal != nil) != test.refused || !test.refused && (channels != test.wantChannels || frame != test.wantFrame) {
			t.Errorf("%+v: %d, %d, %v", test, channels, frame, refusal)
		}
		if refusal != nil && !refusal.Connection {
			t.Errorf("%+v: %v closes a channel", test, refusal)
		}
	}
}

func TestClientCapabilities(t *testing.T) {
	can := clientCapabilities(amqp.Table{"capabilities": amqp.Table{
		"connection.blocked": true, "consumer_cancel_notify": false, "authentication_failure_close": "yes",
	}})
	if want := (capabilities{blocked: true}); can != want {
		t.Errorf("%+v", can)
	}
	if can := clientCapabilities(amqp.Table{"capabilities": int32(1)}); can != (capabilities{}) {
		t.Errorf("%+v", can)
	}
}

func TestExpirations(t *testing.T) {
	for s, want := range map[string]string{
		"0": "", "60000": "", "+10": "", "007": "", "315360000000": "",
		"":               "PRECONDITION_FAILED - invalid expiration '': no_integer",
		"-":              "PRECONDITION_FAILED - invalid expiration '-': no_integer",
		" 10":            "PRECONDITION_FAILED - invalid expiration ' 10': no_integer",
		"10 ":            `PRECONDITION_FAILED - invalid expiration '10 ': {leftover_string," "}`,
		"0x10":           `PRECONDITION_FAILED - invalid expiration '0x10': {leftover_string,"x10"}`,
		"-1":             "PRECONDITION_FAILED - invalid expiration '-1': {value_negative,-1}",
		"99999999999999": "PRECONDITION_FAILED - invalid expiration '99999999999999': {value_too_large,99999999999999}",
	} {
		got := ""
		if e, ok := validExpiration(s).(*amqp.Error); ok {
			got = e.Text
		}
		if got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}
