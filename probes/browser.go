package probes

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"sync/atomic"
	"syscall"
	"time"
)

// maxBody bounds what is read of a response.
const maxBody = 1 << 20

// Browser visits a web service as one visitor does: it keeps the cookies of its
// session, whichever door it comes through, and opens a connection for each visit.
// It is for one goroutine.
type Browser struct {
	client  Client
	dialer  Dialer
	session string
	site    string // host name that every URL has
	roots   *x509.CertPool
	jar     *cookiejar.Jar
}

// NewBrowser makes a visitor without cookies. site is the name by which it calls
// the service and by which certificates are verified against roots.
func NewBrowser(c Client, d Dialer, session, site string, roots *x509.CertPool) *Browser {
	jar, _ := cookiejar.New(nil) // without options it cannot fail
	return &Browser{client: c, dialer: d, session: session, site: site, roots: roots, jar: jar}
}

// Visit asks for a path through a door and always returns a visit, never an
// error. A response that is not the agent's answer to this very request is a
// wrong answer, and so is a certificate that is not the site's.
func (b *Browser) Visit(ctx context.Context, door Door, path string, timeout time.Duration) Visit {
	v := Visit{Client: b.client, Session: b.session, Door: door, Path: path, Start: time.Now()}
	if ctx.Err() != nil {
		v.Outcome, v.Err = Aborted, context.Cause(ctx).Error()
		return v
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var connected atomic.Bool
	err := b.visit(limited, door, path, &v, &connected)
	v.RTT = time.Since(v.Start)
	v.Outcome = outcome(ctx, limited, err, connected.Load())
	switch {
	case err == nil:
	case v.Outcome == Aborted:
		v.Err = context.Cause(ctx).Error()
	case v.Outcome == TimedOut || v.Outcome == Connected:
		v.Err = fmt.Sprintf("no answer within %s", timeout)
	default:
		v.Err = err.Error()
	}
	return v
}

func (b *Browser) visit(ctx context.Context, door Door, path string, v *Visit, connected *atomic.Bool) error {
	scheme := "http"
	if door.TLS {
		scheme = "https"
	}
	target := url.URL{Scheme: scheme, Host: b.site, Path: path}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return err
	}
	nonce := nonce()
	req.Header.Set("X-Hiveproof-Nonce", nonce)
	req.Close = true
	transport := &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{RootCAs: b.roots, ServerName: b.site, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := b.dialer.DialContext(ctx, "tcp", door.Addr.String())
			connected.Store(err == nil)
			return conn, err
		},
	}
	defer transport.CloseIdleConnections()
	client := http.Client{
		Transport: transport, Jar: b.jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return wrongUnlessNetwork(err, connected.Load())
	}
	defer resp.Body.Close()
	v.Status, v.Header = resp.StatusCode, resp.Header
	if resp.TLS != nil && len(resp.TLS.PeerCertificates) > 0 {
		v.Certificate = fmt.Sprintf("%x", resp.TLS.PeerCertificates[0].SerialNumber)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if isEOF(err) { // a peer that stopped in the middle has spoken, as in an Exchange
		return fmt.Errorf("%w: HTTP %s, cut short: %w", errWrong, resp.Status, err)
	}
	if err != nil {
		return err
	}
	a, err := decode(text)
	if err == nil && a.Nonce != nonce {
		err = fmt.Errorf("%w: its nonce is %q, the request's was %q", errWrong, a.Nonce, nonce)
	}
	if err == nil {
		v.Answer = a
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: HTTP %s", errWrong, resp.Status)
	}
	return err
}

// wrongUnlessNetwork tells a peer that spoke and made no sense (no HTTP, a
// certificate that is not the site's) from one that could not be reached.
func wrongUnlessNetwork(err error, connected bool) error {
	var verification *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	if errors.As(err, &verification) || errors.As(err, &record) {
		return fmt.Errorf("%w: %w", errWrong, err)
	}
	var network net.Error
	var number syscall.Errno
	if !connected || errors.As(err, &number) || isEOF(err) || errors.As(err, &network) && network.Timeout() || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: %w", errWrong, err)
}
