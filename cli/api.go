package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

const defaultAPI = "http://guest:guest@127.0.0.1:15672"

// maxAnswer bounds what is read from the API.
const maxAnswer = 256 << 20

// apiFlags are the flags of every command that uses the HTTP API.
func apiFlags(more ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{
			Name: "api", EnvVars: []string{"MIRRORMQ_API"}, Value: defaultAPI, DefaultText: defaultAPI,
			Usage: "the broker's HTTP `URL`; of a comma list, each is tried in turn",
		},
		&cli.DurationFlag{Name: "timeout", Value: 10 * time.Second, Usage: "give up after `TIME`"},
		&cli.BoolFlag{Name: "json", Usage: "print the API's answer"},
	}, more...)
}

// api is the HTTP API of one broker.
type api struct {
	base           *url.URL
	user, password string
	client         *http.Client
}

// withAPI runs fn with the first API of --api that answers.
func withAPI(c *cli.Context, fn func(context.Context, *api) error) error {
	ctx, cancel := context.WithTimeout(c.Context, c.Duration("timeout"))
	defer cancel()
	var errs []error
	for address := range strings.SplitSeq(c.String("api"), ",") {
		a, err := newAPI(strings.TrimSpace(address))
		if err != nil {
			return err
		}
		err = fn(ctx, a)
		a.client.CloseIdleConnections()
		var f *failure
		if err == nil || !errors.As(err, &f) || f.code != exitConnect {
			return err
		}
		errs = append(errs, err)
	}
	return &failure{exitConnect, errors.Join(errs...), "is the broker running, with --http? start one with: mirrormq serve; or name another with --api"}
}

func newAPI(address string) (*api, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fail(exitUsage, "URLs look like "+defaultAPI, "--api: no HTTP URL")
	}
	a := &api{base: u, user: "guest", password: "guest", client: &http.Client{Transport: &http.Transport{}}}
	if u.User != nil {
		a.user = u.User.Username()
		a.password, _ = u.User.Password()
		u.User = nil // It must not show up in an error.
	}
	return a, nil
}

// get fetches a path below /api/ into v.
func (a *api) get(ctx context.Context, path string, v any) error {
	return a.do(ctx, http.MethodGet, path, nil, v)
}

// do makes a request for a path below /api/, with body as JSON if there is one,
// and reads the answer into v.
func (a *api) do(ctx context.Context, method, path string, body, v any) error {
	var sent io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(a.base.String(), "/")+"/api/"+path, sent)
	if err != nil {
		return err
	}
	r.SetBasicAuth(a.user, a.password)
	answer, err := a.client.Do(r)
	if err != nil {
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return fail(exitTimeout, "", "%s does not answer", a.base.Host)
		case errors.Is(err, context.Canceled):
			return context.Canceled
		}
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err
		}
		return fail(exitConnect, "", "cannot reach %s: %w", a.base.Host, err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return fail(exitConnect, "", "%s broke off: %w", a.base.Host, err)
	}
	switch answer.StatusCode {
	case http.StatusOK:
	case http.StatusConflict:
		return fail(exitRefused, "", "%s", reasonOf(text, answer.Status))
	case http.StatusServiceUnavailable:
		return fail(exitTimeout, "", "%s", reasonOf(text, answer.Status))
	case http.StatusUnauthorized, http.StatusForbidden:
		return fail(exitRefused, "check user and password in --api; guest may log in from the broker's own machine only",
			"%s refused the login of user %q", a.base.Host, a.user)
	case http.StatusNotFound:
		return fail(exitNotFound, "", "%s has no %s", a.base.Host, path)
	default:
		return fmt.Errorf("%s answered %s", a.base.Host, answer.Status)
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fail(exitFailure, "is --api a management API?", "%s sent no JSON: %w", a.base.Host, err)
	}
	return nil
}

// reasonOf is what an error object of the API says.
func reasonOf(text []byte, status string) string {
	var answer struct {
		Reason string `json:"reason"`
	}
	if json.Unmarshal(text, &answer) == nil && answer.Reason != "" {
		return answer.Reason
	}
	return "the broker answered " + status
}
