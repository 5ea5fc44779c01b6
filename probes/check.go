package probes

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/hiveproof/hiveproof/reports"
)

// Judgement is what a checker makes of observations. A checker is a pure
// function: it opens no socket, reads no clock and may be run again on the same
// observations by anybody. Zero observations are never a pass.
type Judgement struct {
	Verdict      reports.Verdict
	Reason       string
	Measurements map[string]any
	Samples      []reports.Sample
}

// maxSamples bounds what a judgement shows; the evidence has every exchange.
const maxSamples = 10

// minAnswers is how many answers from each client, host and protocol a claim
// about addresses or tasks needs before it can pass.
const minAnswers = 3

func fail(samples []Exchange, measurements map[string]any, format string, args ...any) Judgement {
	return Judgement{reports.Fail, fmt.Sprintf(format, args...), measurements, counters(samples)}
}

func invalid(measurements map[string]any, samples []Exchange, format string, args ...any) Judgement {
	return Judgement{reports.Invalid, fmt.Sprintf(format, args...), measurements, shown(samples, false)}
}

func pass(samples []Exchange, measurements map[string]any, format string, args ...any) Judgement {
	return Judgement{reports.Pass, fmt.Sprintf(format, args...), measurements, representatives(samples)}
}

// Worst joins judgements of one claim about several observations: the worst
// verdict, every reason, and the measurements of each. None at all is invalid.
func Worst(all []Judgement) Judgement {
	if len(all) == 0 {
		return invalid(nil, nil, "nothing was observed")
	}
	if len(all) == 1 {
		return all[0]
	}
	worst := Judgement{Verdict: all[0].Verdict, Measurements: map[string]any{}}
	var reasons []string
	for i, j := range all {
		worst.Verdict = reports.Worst([]reports.Verdict{worst.Verdict, j.Verdict})
		reasons = append(reasons, j.Reason)
		worst.Measurements[fmt.Sprint(i+1)] = j.Measurements
	}
	worst.Reason = strings.Join(reasons, "; ")
	for _, j := range all {
		if j.Verdict == worst.Verdict {
			worst.Samples = append(worst.Samples, j.Samples...)
		}
	}
	return worst
}

// cell is a client asking a port of a host: what every claim about published
// ports must have seen.
type cell struct {
	Client string
	Host   string
	Port   string // 53/udp
}

func (c cell) String() string { return c.Client + " → " + c.Host + " " + c.Port }

func cellOf(x Exchange) cell {
	return cell{x.Client.Name, x.Endpoint.Host, portOf(x.Endpoint)}
}

func portOf(e Endpoint) string { return fmt.Sprintf("%d/%s", e.Addr.Port(), e.Proto) }

// grid sorts exchanges into cells.
func grid(all []Exchange) map[cell][]Exchange {
	g := map[cell][]Exchange{}
	for _, x := range all {
		g[cellOf(x)] = append(g[cellOf(x)], x)
	}
	return g
}

// wanted are the cells of every client asking every endpoint, sorted.
func wanted(clients []Client, endpoints []Endpoint) []cell {
	seen := map[cell]bool{}
	var all []cell
	for _, c := range clients {
		for _, e := range endpoints {
			at := cell{c.Name, e.Host, portOf(e)}
			if !seen[at] {
				seen[at] = true
				all = append(all, at)
			}
		}
	}
	slices.SortFunc(all, func(a, b cell) int {
		return cmp.Or(cmp.Compare(a.Client, b.Client), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Port, b.Port))
	})
	return all
}

// answered are those exchanges that got the agent's answer.
func answered(all []Exchange) []Exchange {
	return slices.DeleteFunc(slices.Clone(all), func(x Exchange) bool { return x.Outcome != Answered || x.Answer == nil })
}

// replied are those exchanges that got any answer: not every server is the agent.
func replied(all []Exchange) []Exchange {
	return slices.DeleteFunc(slices.Clone(all), func(x Exchange) bool { return x.Outcome != Answered })
}

// untrusted are exchanges that say nothing about the site.
func untrusted(all []Exchange) []Exchange {
	return slices.DeleteFunc(slices.Clone(all), func(x Exchange) bool { return x.Outcome != Aborted && x.Outcome != Failed })
}

// enough says why there are too few answers to judge by; empty if there are enough.
func enough(all []Exchange, clients []Client, endpoints []Endpoint) string {
	if len(clients) == 0 || len(endpoints) == 0 {
		return "nothing was asked"
	}
	if bad := untrusted(all); len(bad) > 0 {
		return fmt.Sprintf("%d of %d exchanges could not be made: %s", len(bad), len(all), describe(bad[0]))
	}
	g := grid(answered(all))
	var short []string
	for _, at := range wanted(clients, endpoints) {
		if n := len(g[at]); n < minAnswers {
			short = append(short, fmt.Sprintf("%s: %d", at, n))
		}
	}
	if len(short) > 0 {
		return fmt.Sprintf("fewer than %d answers from %s", minAnswers, list(short))
	}
	return ""
}

// list joins the first few of many.
func list(all []string) string {
	const most = 4
	if len(all) <= most {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
}

// describe is an exchange as a sentence.
func describe(x Exchange) string {
	text := fmt.Sprintf("%s (%s) asked %s at %s/%s: %s", x.Client.Name, x.Client.Addr, x.Endpoint.Host, x.Endpoint.Addr, x.Endpoint.Proto, x.Outcome)
	if x.Err != "" {
		text += " (" + x.Err + ")"
	}
	return text
}

func sample(x Exchange, counter bool) reports.Sample {
	s := reports.Sample{
		Time:    x.Start,
		Client:  x.Client.Name,
		Target:  fmt.Sprintf("%s %s/%s", x.Endpoint.Host, x.Endpoint.Addr, x.Endpoint.Proto),
		Outcome: string(x.Outcome),
		RTTms:   float64(x.RTT.Microseconds()) / 1000,
		Counter: counter,
	}
	if x.Client.Addr.IsValid() {
		s.Client += " " + x.Client.Addr.String()
	}
	if x.Answer != nil {
		if x.Answer.Source.IsValid() {
			s.Seen = x.Answer.Source.String()
		}
		s.Server = fmt.Sprintf("%s on %s", shortTask(x.Answer.Task), x.Answer.Node)
	} else if x.Err != "" {
		s.Server = x.Err
	}
	return s
}

func shortTask(id string) string {
	if len(id) > 12 {
		return id[:12]
	}
	return id
}

func shown(all []Exchange, counter bool) []reports.Sample {
	var samples []reports.Sample
	for _, x := range all[:min(len(all), maxSamples)] {
		samples = append(samples, sample(x, counter))
	}
	return samples
}

// counters shows exchanges that contradict a claim, one of each cell before more
// of the same.
func counters(all []Exchange) []reports.Sample { return shown(spread(all), true) }

// representatives shows one exchange of each cell.
func representatives(all []Exchange) []reports.Sample {
	cells := len(grid(all))
	return shown(spread(all)[:cells], false)
}

// spread puts the first exchange of each cell first.
func spread(all []Exchange) []Exchange {
	seen := map[cell]bool{}
	var first, rest []Exchange
	for _, x := range all {
		if at := cellOf(x); seen[at] {
			rest = append(rest, x)
		} else {
			seen[at] = true
			first = append(first, x)
		}
	}
	return append(first, rest...)
}

// outcomes counts exchanges by outcome.
func outcomes(all []Exchange) map[string]int {
	n := map[string]int{}
	for _, x := range all {
		n[string(x.Outcome)]++
	}
	return n
}

// sources counts the addresses that the container saw, by client.
func sources(all []Exchange) map[string]map[string]int {
	seen := map[string]map[string]int{}
	for _, x := range all {
		if seen[x.Client.Name] == nil {
			seen[x.Client.Name] = map[string]int{}
		}
		seen[x.Client.Name][x.Answer.Source.Addr().String()]++
	}
	return seen
}
