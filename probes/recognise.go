package probes

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// firstWord is how long a server has to speak before it is asked.
const firstWord = 500 * time.Millisecond

// Recognise finds out what is spoken on a port: an Endpoint's App and Plain by which
// it can be asked. It tries one protocol after another, each on a fresh connection
// and for no longer than timeout, so that a port that says nothing takes several
// times as long. What speaks none of the protocols is "tcp" or "udp"; so is a
// TLS port with something else than HTTP in it, and a UDP port that nobody listens on.
// It is an error if no connection is to be had, or if ctx ends.
func Recognise(ctx context.Context, d Dialer, at netip.AddrPort, proto string, timeout time.Duration) (app string, plain bool, err error) {
	r := &recogniser{ctx: ctx, dialer: d, timeout: timeout, endpoint: Endpoint{Addr: at, Proto: proto}}
	if proto == "tcp" {
		app, plain, err = r.stream()
	} else {
		app, plain = r.either()
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return "", false, fmt.Errorf("recognise what is spoken on %s/%s: %w", at, proto, err)
	}
	return app, plain, nil
}

type recogniser struct {
	ctx      context.Context
	dialer   Dialer
	timeout  time.Duration
	endpoint Endpoint
}

// put asks once. It says whether the answer was the one wanted, and whether it was
// at least HTTP.
func (r *recogniser) put(app string, plain bool) (answered, web bool) {
	limited, cancel := context.WithTimeout(r.ctx, r.timeout)
	defer cancel()
	e := r.endpoint
	e.App, e.Plain = app, plain
	a, _, err := ask(limited, r.dialer, e)
	var other httpError
	return err == nil, (app == "http" || app == "https") && (err == nil || a != nil || errors.As(err, &other))
}

func (r *recogniser) stream() (app string, plain bool, err error) {
	switch spoke, err := r.first(); {
	case err != nil:
		return "", false, err
	case spoke != "":
		return spoke, true, nil
	}
	agent, web := r.put("http", false)
	if agent {
		return "http", false, nil
	}
	// Servers of HTTPS tell clients of HTTP in HTTP that they are wrong here.
	agent, secure := r.put("https", false)
	switch {
	case secure:
		return "https", !agent, nil
	case web:
		return "http", true, nil
	}
	app, plain = r.either()
	return app, plain, nil
}

// first listens to a server that speaks first. It is "mysql", or "tcp" for what no
// protocol that begins with a question does; nothing if the server waits.
func (r *recogniser) first() (app string, err error) {
	limited, cancel := context.WithTimeout(r.ctx, r.timeout)
	defer cancel()
	conn, err := r.dialer.DialContext(limited, r.endpoint.Proto, r.endpoint.Addr.String())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	stop := context.AfterFunc(limited, func() { conn.Close() })
	defer stop()
	if err := conn.SetReadDeadline(time.Now().Add(firstWord)); err != nil {
		return "", fmt.Errorf("listen for what the server says first: %w", err)
	}
	heard := &tally{Conn: conn}
	switch err := awaitMySQL(heard); {
	case err == nil:
		return "mysql", nil
	case heard.received > 0:
		return "tcp", nil
	}
	return "", nil // whatever went wrong will be seen again
}

// either tries what is spoken over TCP and UDP alike.
func (r *recogniser) either() (app string, plain bool) {
	for _, try := range []struct {
		app   string
		plain bool
	}{{"dns", false}, {"dns", true}, {"echo", false}} {
		if answered, _ := r.put(try.app, try.plain); answered {
			return try.app, try.plain
		}
	}
	return r.endpoint.Proto, true
}
