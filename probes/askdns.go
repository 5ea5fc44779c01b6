package probes

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/hiveproof/hiveproof/probes/whoami"
	"github.com/miekg/dns"
)

// ednsSize is what fits an unfragmented datagram on any path (DNS flag day 2020).
const ednsSize = 1232

// askDNS asks for the agent's TXT record; a plain server only for its version (RFC
// 4892), which costs it no look-up and to which any reply will do, a refusal too.
func askDNS(conn net.Conn, plain bool, nonce string) (*whoami.Answer, error) {
	q := new(dns.Msg)
	q.SetQuestion(nonce+"."+whoami.Zone, dns.TypeTXT)
	if plain {
		q.SetQuestion("version.bind.", dns.TypeTXT)
		q.Question[0].Qclass = dns.ClassCHAOS
	}
	q.SetEdns0(ednsSize, false)
	c := &dns.Conn{Conn: conn, UDPSize: ednsSize}
	if err := c.WriteMsg(q); err != nil {
		return nil, err
	}
	m, err := c.ReadMsg()
	if err != nil {
		var parse *dns.Error
		if m != nil || errors.As(err, &parse) {
			return nil, fmt.Errorf("%w: %w", errWrong, err)
		}
		return nil, err
	}
	switch {
	case m.Id != q.Id:
		return nil, fmt.Errorf("%w: DNS message ID %d, the question's was %d", errWrong, m.Id, q.Id)
	case !m.Response:
		return nil, fmt.Errorf("%w: a DNS question", errWrong)
	case plain:
		return nil, nil
	case m.Rcode != dns.RcodeSuccess || len(m.Answer) == 0 || m.Truncated:
		return nil, fmt.Errorf("%w: DNS %s with %d records, truncated: %v", errWrong, dns.RcodeToString[m.Rcode], len(m.Answer), m.Truncated)
	}
	// One record of many strings is the agent's way; PowerDNS gives a record to each.
	var attributes []string
	for _, rr := range m.Answer {
		txt, ok := rr.(*dns.TXT)
		if !ok || !strings.EqualFold(txt.Hdr.Name, q.Question[0].Name) {
			return nil, fmt.Errorf("%w: a DNS record %s", errWrong, rr)
		}
		attributes = append(attributes, txt.Txt...)
	}
	a, err := whoami.ParseTXT(attributes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errWrong, err)
	}
	return a, nil
}
