// Package whoami is the answer that the agent gives to whoever asks it, over
// every protocol that it speaks, and its encodings. The agent writes it inside
// a container; probes read it. It is the only thing the two have in common.
package whoami

import "net/netip"

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
}
