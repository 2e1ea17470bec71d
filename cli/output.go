package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/mirrormq/mirrormq/client"
)

// outputFlag chooses how messages are printed.
func outputFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "output", Aliases: []string{"o"}, Value: "body",
		Usage: "`FORMAT`: body (a line each), raw (bodies and nothing else), json (an object a line)",
	}
}

// printer writes messages to standard output.
type printer struct {
	format string
	out    *bufio.Writer
}

func newPrinter(c *cli.Context) (*printer, error) {
	p := &printer{c.String("output"), bufio.NewWriterSize(c.App.Writer, 64<<10)}
	return p, oneOf("output", p.format, "body", "raw", "json")
}

// messageView is a message as JSON, with the field names of RabbitMQ's
// management API.
type messageView struct {
	Exchange    string         `json:"exchange"`
	RoutingKey  string         `json:"routing_key"`
	Redelivered bool           `json:"redelivered"`
	Remaining   *uint32        `json:"message_count,omitempty"` // of get
	Properties  map[string]any `json:"properties"`
	Bytes       int            `json:"payload_bytes"`
	Payload     string         `json:"payload"`
	Encoding    string         `json:"payload_encoding"` // string or base64
}

// print writes one message to the buffer; flush hands it on.
func (p *printer) print(d *amqp.Delivery, remaining *uint32) error {
	switch p.format {
	case "raw":
		_, err := p.out.Write(d.Body)
		return err
	case "body":
		if _, err := p.out.Write(d.Body); err != nil {
			return err
		}
		return p.out.WriteByte('\n')
	}
	v := messageView{
		Exchange: d.Exchange, RoutingKey: d.RoutingKey, Redelivered: d.Redelivered, Remaining: remaining,
		Properties: properties(d), Bytes: len(d.Body), Payload: string(d.Body), Encoding: "string",
	}
	if !utf8.Valid(d.Body) {
		v.Payload, v.Encoding = base64.StdEncoding.EncodeToString(d.Body), "base64"
	}
	b, err := json.Marshal(v)
	if err != nil { // A NaN in a header: JSON has none.
		v.Properties = map[string]any{"unprintable": fmt.Sprint(d.Headers)}
		if b, err = json.Marshal(v); err != nil {
			return err
		}
	}
	_, err = p.out.Write(append(b, '\n'))
	return err
}

// delivery writes one message of the SDK's to the buffer.
func (p *printer) delivery(d *client.Delivery) error {
	view := amqp.Delivery{
		Exchange: d.Exchange, RoutingKey: d.RoutingKey, Redelivered: d.Redelivered, Body: d.Body, Headers: d.Headers,
		ContentType: d.ContentType, ContentEncoding: d.ContentEncoding, CorrelationId: d.CorrelationID, ReplyTo: d.ReplyTo,
		MessageId: d.MessageID, Timestamp: d.Timestamp, Type: d.Type, UserId: d.UserID, AppId: d.AppID,
		DeliveryMode: amqp.Persistent, Priority: d.Priority,
	}
	if d.Transient {
		view.DeliveryMode = amqp.Transient
	}
	if d.TTL > 0 {
		view.Expiration = strconv.FormatInt(d.TTL.Milliseconds(), 10)
	}
	return p.print(&view, nil)
}

func (p *printer) flush() error { return p.out.Flush() }

// properties are those that the message has.
func properties(d *amqp.Delivery) map[string]any {
	m := map[string]any{}
	for name, value := range map[string]string{
		"content_type": d.ContentType, "content_encoding": d.ContentEncoding, "correlation_id": d.CorrelationId,
		"reply_to": d.ReplyTo, "expiration": d.Expiration, "message_id": d.MessageId, "type": d.Type,
		"user_id": d.UserId, "app_id": d.AppId,
	} {
		if value != "" {
			m[name] = value
		}
	}
	if d.DeliveryMode != 0 {
		m["delivery_mode"] = d.DeliveryMode
	}
	if d.Priority != 0 {
		m["priority"] = d.Priority
	}
	if !d.Timestamp.IsZero() {
		m["timestamp"] = d.Timestamp.Unix()
	}
	if len(d.Headers) > 0 {
		m["headers"] = d.Headers
	}
	return m
}

// isTerminal says whether a person watches w, or types into it.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// style marks text where a person watches; elsewhere output is plain.
type style bool

func styleOf(w io.Writer) style {
	if marked, ok := w.(interface{ style() style }); ok {
		return marked.style()
	}
	return style(isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}

func (s style) bold(text string) string  { return s.code("1", text) }
func (s style) alarm(text string) string { return s.code("1;31", text) }

func (s style) code(code, text string) string {
	if !s {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// table prints rows in columns under a header. The marks of bold would count
// as width, so the header line is marked as a whole afterwards.
func table(w io.Writer, header []string, rows [][]string) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		if _, err := fmt.Fprintln(t, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	head, rest, _ := strings.Cut(b.String(), "\n")
	_, err := fmt.Fprintf(w, "%s\n%s", styleOf(w).bold(head), rest)
	return err
}

// printJSON prints v indented.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// thousands prints n as 1,234,567.
func thousands[N int | int64 | uint64](n N) string {
	s := strconv.FormatInt(int64(n), 10)
	start := 0
	if s[0] == '-' {
		start = 1
	}
	for i := len(s) - 3; i > start; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// perSecond prints n things in d as a rate.
func perSecond(n int64, d time.Duration) string {
	if d <= 0 {
		return "0/s"
	}
	rate := float64(n) / d.Seconds()
	if rate < 10 {
		return fmt.Sprintf("%.1f/s", rate)
	}
	return thousands(int64(rate)) + "/s"
}

// plural prints a count with its noun.
func plural(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return thousands(n) + " " + noun + "s"
}

// printableName is a name that can't disturb a terminal or a table.
func printableName(name string) string {
	quoted := strconv.Quote(name)
	if quoted == `"`+name+`"` && name != "" {
		return name
	}
	return quoted
}
