// Package probes makes observations of a deployed site and judges them.
// Observation and judgement stay apart: a prober opens sockets (through a
// Dialer, so that it may speak from any place in the lab's network) and records
// what happened; a checker is a pure function from observations to a Judgement.
package probes

import (
	"net/netip"
	"time"

	"github.com/hiveproof/hiveproof/probes/whoami"
)

// Outcome says how an exchange ended. "Any error" is never one outcome: each is told apart.
type Outcome string

// The outcomes of an exchange.
const (
	Answered    Outcome = "answered"     // the agent's answer to this very question came back; where no agent is expected, any answer in the endpoint's protocol
	Connected   Outcome = "connected"    // TCP was accepted, no answer came in time
	Refused     Outcome = "refused"      // TCP RST to the SYN, or ICMP port unreachable
	Reset       Outcome = "reset"        // accepted, then reset
	TimedOut    Outcome = "timeout"      // nothing came back
	Unreachable Outcome = "unreachable"  // ICMP host or network unreachable, or no neighbour
	WrongAnswer Outcome = "wrong-answer" // something answered, and it was not the agent's answer to this question
	Aborted     Outcome = "aborted"      // the run was interrupted; says nothing about the site
	Failed      Outcome = "failed"       // the probe itself could not be made (local error)
)

// Client is a place to speak from.
type Client struct {
	Name    string     `json:"name"`
	Addr    netip.Addr `json:"addr"`
	Network string     `json:"network"` // "segment", or the outside network's prefix
}

// Endpoint is one published (or suspected) port of a service on one host.
type Endpoint struct {
	Service string         `json:"service"`
	Host    string         `json:"host"`
	Addr    netip.AddrPort `json:"addr"`
	Proto   string         `json:"proto"`             // "tcp" or "udp"
	App     string         `json:"app"`               // what is spoken on it: "dns", "http", "https", "echo", "mysql", or "tcp" or "udp" if nobody knows
	Plain   bool           `json:"plain,omitempty"`   // it is known not to say who it is: any answer in its protocol counts
	Control bool           `json:"control,omitempty"` // asked only to show that the path works
}

// Exchange is one question asked by one client of one endpoint, on a fresh
// connection (TCP) or from a fresh port (UDP).
type Exchange struct {
	Client    Client         `json:"client"`
	Endpoint  Endpoint       `json:"endpoint"`
	LocalAddr netip.AddrPort `json:"local_addr"` // the client's own end
	Start     time.Time      `json:"start"`
	RTT       time.Duration  `json:"rtt_ns"` // until the answer or the failure; 0 if unknown
	Outcome   Outcome        `json:"outcome"`
	Answer    *whoami.Answer `json:"answer,omitempty"`
	Err       string         `json:"error,omitempty"`
}
