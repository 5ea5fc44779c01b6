package probes

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

const (
	// minRate is the least number of questions a second and client by which an
	// outage may be measured. Twenty are asked; a pace lags a little.
	minRate = 16.0
	maxPace = 50 * time.Millisecond
	// lastWords is the time before the end of an observation in which a host that
	// goes on answering must have done so.
	lastWords = 2 * time.Second
)

// doubt says why a fault shows nothing; empty if it may.
func (f Fault) doubt() string {
	switch {
	case f.Unhealthy != "":
		return "the site was not healthy before the fault: " + f.Unhealthy
	case f.Injected.IsZero() || f.Effective.IsZero():
		return "the fault did not take effect"
	case f.Ended.IsZero() || f.Ended.Before(f.Effective):
		return "nothing was observed after the fault"
	}
	return ""
}

// what says what happened, as the beginning of a sentence.
func (f Fault) what() string {
	led := "it did not lead"
	if f.Led {
		led = "it led the swarm"
	}
	if f.Kind == TaskLoss {
		return fmt.Sprintf("task %s on %s was killed (%s)", shortTask(f.Task), f.Host, strings.Replace(led, "it", "the host", 1))
	}
	task := "no task of the service ran there"
	if f.TaskLost {
		task = "a task of the service ran there"
	}
	return fmt.Sprintf("%s lost its power (%s, %s)", f.Host, led, task)
}

// times are the phases after the injection, in seconds; what did not happen is left out.
func (f Fault) times() map[string]any {
	m := map[string]any{"kind": f.Kind, "host": f.Host, "led": f.Led, "task_lost": f.TaskLost}
	for name, at := range map[string]time.Time{"effective_s": f.Effective, "noticed_s": f.Noticed, "replaced_s": f.Replaced, "healed_s": f.Healed} {
		if !at.IsZero() {
			m[name] = seconds(at.Sub(f.Injected))
		}
	}
	if f.HealProblem != "" {
		m["heal_problem"] = f.HealProblem
	}
	return m
}

// seconds to the millisecond.
func seconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }

// Outage is the longest time between two consecutive answers, of those times that
// overlap the span from from to to; a time without an answer ends at to at the
// latest. Exchanges may be in any order. Without an answer before, it begins at from.
func Outage(all []Exchange, from, to time.Time) time.Duration {
	var answers []time.Time
	for _, x := range all {
		if x.Outcome == Answered {
			answers = append(answers, x.Start)
		}
	}
	slices.SortFunc(answers, time.Time.Compare)
	last := from
	var longest time.Duration
	for _, at := range append(answers, to) {
		if at.After(to) {
			at = to
		}
		if at.After(from) {
			longest = max(longest, at.Sub(last))
		}
		if at.Before(from) || at.After(last) {
			last = at
		}
	}
	return longest
}

// SurvivesLoss checks mesh/survives-task-loss and mesh/survives-host-loss: the
// hosts that are left go on answering each client, none for longer than limit
// without an answer (0 is no limit), and the outages are measured.
func SurvivesLoss(l Loss, limit time.Duration) Judgement {
	f := l.Fault
	m := f.times()
	if why := f.doubt(); why != "" {
		return invalid(m, nil, "%s", why)
	}
	if len(l.Clients) == 0 || len(l.Endpoints) == 0 || len(l.Exchanges) == 0 {
		return invalid(m, nil, "nothing was asked")
	}
	pairs := grid(l.Exchanges)
	byClient := map[string][]Exchange{}
	asked, lost := 0, 0 // since the fault
	for _, x := range l.Exchanges {
		byClient[x.Client.Name] = append(byClient[x.Client.Name], x)
		if x.Start.Before(f.Injected) {
			continue
		}
		asked++
		if x.Outcome != Answered {
			lost++
		}
	}
	outages, rates := map[string]float64{}, map[string]float64{}
	m["questions"], m["lost"], m["outage_s"], m["rate_per_client"] = asked, lost, outages, rates
	for _, c := range l.Clients {
		rates[c.Name] = rate(byClient[c.Name], earliest(l.Exchanges), f.Ended)
		outages[c.Name] = seconds(Outage(byClient[c.Name], f.Injected, f.Ended))
	}
	var worst cell
	var longest time.Duration
	cells := wanted(l.Clients, l.Endpoints)
	for _, at := range cells {
		outage := Outage(pairs[at], f.Injected, f.Ended)
		outages[at.Client+" at "+at.Host] = seconds(outage)
		if worst.Client == "" || outage > longest {
			worst, longest = at, outage
		}
	}
	if bad := untrusted(l.Exchanges); len(bad) > 0 {
		return invalid(m, bad, "%d of %d questions could not be put: %s", len(bad), len(l.Exchanges), describe(bad[0]))
	}
	for _, c := range l.Clients {
		if l.Interval > maxPace || rates[c.Name] < minRate {
			return invalid(m, nil, "%s asked %.1f times a second (one each %s): too seldom to measure an outage", c.Name, rates[c.Name], l.Interval)
		}
	}
	last := func(x Exchange) bool { return f.Ended.Sub(x.Start) <= lastWords }
	for _, at := range cells {
		switch {
		case !slices.ContainsFunc(replied(pairs[at]), func(x Exchange) bool { return x.Start.Before(f.Injected) }):
			return invalid(m, pairs[at], "%s had no answer before the fault either", at)
		case !slices.ContainsFunc(pairs[at], last):
			return invalid(m, nil, "%s was not asked in the last %s", at, lastWords)
		}
	}
	for _, at := range cells {
		if !slices.ContainsFunc(replied(pairs[at]), last) {
			return fail(unansweredAfter(pairs[at], f.Injected), m, "%s; %s did not answer %s any more, to the end %.1f s later", f.what(), at.Host, at.Client, f.Ended.Sub(f.Injected).Seconds())
		}
	}
	if limit > 0 && longest > limit {
		return fail(unansweredAfter(pairs[worst], f.Injected), m, "%s; %s was without an answer from %s for %.1f s, more than %s", f.what(), worst.Client, worst.Host, longest.Seconds(), limit)
	}
	reason := fmt.Sprintf("%s; %s went on answering: longest outage %.2f s (%s at %s), %d of %d questions lost",
		f.what(), list(hostsOf(l.Endpoints)), longest.Seconds(), worst.Client, worst.Host, lost, asked)
	if !f.Noticed.IsZero() {
		reason += fmt.Sprintf("; the swarm noticed after %.1f s", f.Noticed.Sub(f.Injected).Seconds())
	}
	if !f.Replaced.IsZero() {
		reason += fmt.Sprintf(", all tasks ran again after %.1f s", f.Replaced.Sub(f.Injected).Seconds())
	}
	return pass(replied(l.Exchanges), m, "%s", reason)
}

func unansweredAfter(all []Exchange, at time.Time) []Exchange {
	return slices.DeleteFunc(slices.Clone(all), func(x Exchange) bool { return x.Outcome == Answered || x.Start.Before(at) })
}

func hostsOf(endpoints []Endpoint) []string {
	var hosts []string
	for _, e := range endpoints {
		if !slices.Contains(hosts, e.Host) {
			hosts = append(hosts, e.Host)
		}
	}
	return hosts
}

// earliest is when the first question was put.
func earliest(all []Exchange) time.Time {
	return slices.MinFunc(all, func(a, b Exchange) int { return a.Start.Compare(b.Start) }).Start
}

// rate is how many questions a second were put between two times, to a tenth.
func rate(all []Exchange, from, to time.Time) float64 {
	n := 0
	for _, x := range all {
		if !x.Start.After(to) {
			n++
		}
	}
	if n == 0 || !to.After(from) {
		return 0
	}
	return math.Floor(10*float64(n)/to.Sub(from).Seconds()) / 10
}

// FallsBack checks one-to-one/fallback: a client that asks the lost host first is
// served by another one.
func FallsBack(f Fallback) Judgement {
	m := f.Fault.times()
	if why := f.Fault.doubt(); why != "" {
		return invalid(m, nil, "%s", why)
	}
	if len(f.Tries) == 0 {
		return invalid(m, nil, "nothing was asked")
	}
	for _, t := range f.Tries {
		if len(t.Exchanges) == 0 {
			return invalid(m, nil, "%s asked nobody", t.Client.Name)
		}
		if !slices.ContainsFunc(t.Addresses, func(h string) bool { return h != f.Fault.Host }) {
			return invalid(m, t.Exchanges, "%s has one address only, the lost host's: it has nothing to fall back on", t.Client.Name)
		}
		for _, x := range t.Exchanges {
			if x.Endpoint.Host == f.Fault.Host && x.Outcome == Answered {
				return invalid(m, []Exchange{x}, "%s still answers: the fault did not take effect", x.Endpoint.Host)
			}
		}
		if bad := untrusted(t.Exchanges); len(bad) > 0 {
			return invalid(m, bad, "a question could not be put: %s", describe(bad[0]))
		}
	}
	var took []time.Duration
	var shown []Exchange
	lostFirst := map[string]bool{}
	for _, t := range f.Tries {
		first, last := t.Exchanges[0], t.Exchanges[len(t.Exchanges)-1]
		if last.Outcome != Answered {
			return fail(t.Exchanges, m, "%s; %s tried %s, and none answered: %s", f.Fault.what(), t.Client.Name, list(t.Addresses), describe(last))
		}
		lostFirst[t.Client.Name] = lostFirst[t.Client.Name] || first.Endpoint.Host == f.Fault.Host
		if first.Endpoint.Host == f.Fault.Host {
			took = append(took, t.Took)
			shown = append(shown, t.Exchanges...)
		}
	}
	for _, c := range sortedKeys(lostFirst) {
		if !lostFirst[c] {
			return invalid(m, nil, "%s never tried the lost host first", c)
		}
	}
	slices.Sort(took)
	m["tries"], m["took_median_s"], m["took_max_s"] = len(f.Tries), seconds(took[len(took)/2]), seconds(took[len(took)-1])
	return pass(shown, m, "%s; each of %d questions of %d clients that asked it first was answered by another host, in %.2f s (median; at most %.2f s)",
		f.Fault.what(), len(took), len(lostFirst), took[len(took)/2].Seconds(), took[len(took)-1].Seconds())
}
