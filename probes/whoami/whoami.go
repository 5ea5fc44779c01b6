// Package whoami is the answer that the agent gives to whoever asks it, over
// every protocol that it speaks, and its encodings. The agent writes it inside
// a container; probes read it. It is the only thing the two have in common.
package whoami

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Answer is what a container says of itself and of the connection it was asked on.
type Answer struct {
	Service   string `json:"service"`   // swarm service name, from HIVEPROOF_SERVICE
	Task      string `json:"task"`      // swarm task ID, from HIVEPROOF_TASK
	Slot      string `json:"slot"`      // replica number (node ID for a global service), from HIVEPROOF_SLOT
	Node      string `json:"node"`      // host name of the swarm node, from HIVEPROOF_NODE
	Container string `json:"container"` // host name inside the container
	Role      string `json:"role"`      // from HIVEPROOF_ROLE: what the agent stands in for

	// Source is the remote address as the container's socket sees it, Local its own.
	Source netip.AddrPort `json:"source"`
	Local  netip.AddrPort `json:"local"`
	Proto  string         `json:"proto"` // "tcp" or "udp"

	// Nonce repeats what the client sent, so that an answer is known to be to this question.
	Nonce string `json:"nonce,omitempty"`
	// Seq counts the requests this process has answered since it started, from 1.
	Seq uint64 `json:"seq"`
	// Header is the HTTP request's header (HTTP only), with Host added.
	Header map[string][]string `json:"header,omitempty"`
	// Session is the ID of the visitor's session, from the cookie SessionCookie
	// (HTTP only), and Visits how many requests of it this container has answered:
	// it is kept in the container's memory and nowhere else. A session that the
	// container does not know begins again at 1, under the ID that the visitor brought.
	Session string `json:"session,omitempty"`
	Visits  int    `json:"visits,omitempty"`
	// DB is what the database said, on the path DatabasePath (HTTP only).
	DB *DB `json:"db,omitempty"`
}

// DB is a row written to the database that DB_* in the environment name, and read back.
type DB struct {
	Server string `json:"server"` // the database's version
	Rows   int    `json:"rows"`   // in the table, with the one just written
	Err    string `json:"error,omitempty"`
}

const (
	// Path is where a server answers for itself over HTTP; the agent answers
	// everywhere, a proxy that serves others only here (RFC 8615).
	Path = "/.well-known/hiveproof"
	// DatabasePath is where the agent's web role writes a row to its database.
	DatabasePath = "/results"
	// SessionCookie is the cookie of the agent's web role.
	SessionCookie = "hiveproof_session"
)

// Zone is the DNS zone that the agent answers for; a question is for NONCE.Zone
// with type TXT. The top-level domain is one that never resolves (RFC 6761).
const Zone = "whoami.hiveproof.test."

// TXT gives the answer as attributes of a TXT record (RFC 1464), one a string,
// readable in any packet capture. Header is left out.
func (a *Answer) TXT() []string {
	var all []string
	for _, f := range a.fields() {
		if v := f.get(); v != "" {
			all = append(all, f.name+"="+v)
		}
	}
	return all
}

// ParseTXT undoes TXT.
func ParseTXT(attributes []string) (*Answer, error) {
	a := new(Answer)
	fields := a.fields()
	for _, text := range attributes {
		name, value, ok := strings.Cut(text, "=")
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
		if !ok || i < 0 {
			return nil, fmt.Errorf("unknown attribute %q", text)
		}
		if err := fields[i].set(value); err != nil {
			return nil, fmt.Errorf("attribute %q: %w", text, err)
		}
	}
	return a, nil
}

type field struct {
	name string
	get  func() string
	set  func(string) error
}

func (a *Answer) fields() []field {
	text := func(name string, p *string) field {
		return field{name, func() string { return *p }, func(v string) error { *p = v; return nil }}
	}
	addr := func(name string, p *netip.AddrPort) field {
		return field{name, func() string {
			if !p.IsValid() {
				return ""
			}
			return p.String()
		}, func(v string) (err error) {
			*p, err = netip.ParseAddrPort(v)
			return err
		}}
	}
	return []field{
		text("service", &a.Service), text("task", &a.Task), text("slot", &a.Slot), text("node", &a.Node),
		text("container", &a.Container), text("role", &a.Role), text("proto", &a.Proto), text("nonce", &a.Nonce),
		addr("source", &a.Source), addr("local", &a.Local),
		{"seq", func() string { return strconv.FormatUint(a.Seq, 10) }, func(v string) (err error) {
			a.Seq, err = strconv.ParseUint(v, 10, 64)
			return err
		}},
	}
}
