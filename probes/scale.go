package probes

import (
	"fmt"
	"slices"
)

// minScaleAnswers is how many answers of each port a phase needs: each of a handful
// of replicas has had its turn then.
const minScaleAnswers = 10

// Scales checks mesh/scales: with more replicas each new task serves on every
// port; with fewer again, what is removed gets nothing more and nothing is lost.
func Scales(s Scaling) Judgement {
	m := map[string]any{}
	answers := map[string]map[string]int{}
	for name, p := range map[string]ScalePhase{"before": s.Before, "grown": s.Grown, "shrunk": s.Shrunk} {
		answers[name] = map[string]int{}
		for _, x := range answered(p.Exchanges) {
			answers[name][x.Answer.Task]++
		}
	}
	m["answers_by_phase_and_task"] = answers
	added := except(s.Grown.Tasks, s.Before.Tasks)
	removed := except(s.Grown.Tasks, s.Shrunk.Tasks)
	for _, p := range []struct {
		name string
		ScalePhase
	}{{"with more replicas", s.Grown}, {"with fewer again", s.Shrunk}} {
		for _, x := range answered(p.Exchanges) {
			if slices.Contains(removed, x.Answer.Task) && p.name != "with more replicas" {
				return fail([]Exchange{x}, m, "task %s was removed, and still answered %s at %s", shortTask(x.Answer.Task), x.Client.Name, x.Endpoint.Host)
			}
			if !slices.Contains(p.Tasks, x.Answer.Task) {
				return fail([]Exchange{x}, m, "%s task %s answered, which is none of those that run", p.name, shortTask(x.Answer.Task))
			}
		}
	}
	for _, p := range []struct {
		name string
		ScalePhase
	}{{"before", s.Before}, {"with more replicas", s.Grown}, {"with fewer again", s.Shrunk}} {
		if len(p.Tasks) != p.Replicas || p.Replicas == 0 {
			return invalid(m, nil, "%s %d of %d tasks ran", p.name, len(p.Tasks), p.Replicas)
		}
		if bad := untrusted(p.Exchanges); len(bad) > 0 {
			return invalid(m, bad, "%s %d of %d exchanges could not be made: %s", p.name, len(bad), len(p.Exchanges), describe(bad[0]))
		}
		var against, lost []Exchange
		udp, got := 0, map[string]int{}
		for _, x := range p.Exchanges {
			if x.Endpoint.Proto == "udp" {
				udp++
			}
			switch {
			case x.Outcome == Answered:
				got[portOf(x.Endpoint)]++
			case x.Endpoint.Proto == "udp" && x.Outcome == TimedOut:
				lost = append(lost, x)
			default:
				against = append(against, x)
			}
		}
		if len(against) > 0 {
			return fail(against, m, "%s %d of %d exchanges were not answered: %s", p.name, len(against), len(p.Exchanges), describe(against[0]))
		}
		if float64(len(lost)) > maxUDPLoss*float64(udp) {
			return fail(lost, m, "%s %d of %d UDP questions got no answer: %s", p.name, len(lost), udp, describe(lost[0]))
		}
		if len(got) == 0 {
			return invalid(m, nil, "%s nothing was asked", p.name)
		}
		for port, n := range got {
			if n < minScaleAnswers {
				return invalid(m, nil, "%s there were %d answers on %s, %d are needed", p.name, n, port, minScaleAnswers)
			}
		}
	}
	if len(added) == 0 || len(removed) == 0 {
		return invalid(m, nil, "no task was added, or none removed")
	}
	served := map[[2]string]bool{}
	ports := map[string]bool{}
	for _, x := range answered(s.Grown.Exchanges) {
		served[[2]string{portOf(x.Endpoint), x.Answer.Task}] = true
		ports[portOf(x.Endpoint)] = true
	}
	for _, port := range sortedKeys(ports) {
		for _, t := range added {
			if !served[[2]string{port, t}] {
				return fail(answered(s.Grown.Exchanges), m, "the new task %s served nobody on %s", shortTask(t), port)
			}
		}
	}
	return pass(s.Shrunk.Exchanges, m, "with %d replicas the new task served on %s; with %d again the removed one got nothing of %d questions, and none was lost",
		s.Grown.Replicas, list(sortedKeys(ports)), s.Shrunk.Replicas, len(s.Shrunk.Exchanges))
}

// except are those of all that are not among others.
func except(all, others []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return slices.Contains(others, s) })
}

// enoughOutside is how often a client outside must have found a port silent, and
// one inside have been answered by it.
const enoughOutside, enoughInside = 1, 2

// InternalRange checks ports/internal-range: what clients on the segment are served
// on is not to be had from outside.
func InternalRange(p Published) Judgement {
	silence := map[string]int{}
	inside, outside := 0, 0
	for _, c := range p.Clients {
		if c.Network == "segment" {
			inside++
		} else {
			outside++
		}
	}
	m := map[string]any{"clients_inside": inside, "clients_outside": outside, "outcomes_outside": silence}
	for _, x := range p.Exchanges {
		if x.Client.Network == "segment" {
			continue
		}
		silence[string(x.Outcome)]++
		switch x.Outcome {
		case Answered, Connected, Reset, WrongAnswer:
			return fail([]Exchange{x}, m, "an internal port was reached from outside: %s", describe(x))
		}
	}
	if bad := untrusted(p.Exchanges); len(bad) > 0 {
		return invalid(m, bad, "%d of %d exchanges could not be made: %s", len(bad), len(p.Exchanges), describe(bad[0]))
	}
	if inside == 0 || outside == 0 || len(p.Endpoints) == 0 {
		return invalid(m, nil, "there were %d clients inside and %d outside, and %d ports", inside, outside, len(p.Endpoints))
	}
	g := grid(p.Exchanges)
	for _, at := range wanted(p.Clients, p.Endpoints) {
		all := g[at]
		i := slices.IndexFunc(p.Clients, func(c Client) bool { return c.Name == at.Client })
		switch {
		case p.Clients[i].Network != "segment" && len(all) < enoughOutside:
			return invalid(m, nil, "%s was not asked", at)
		case p.Clients[i].Network == "segment" && len(replied(all)) < enoughInside:
			return invalid(m, all, "%s was not answered either: what is silent for everybody shows nothing", at)
		}
	}
	reason := fmt.Sprintf("%d question(s) of %d clients outside met silence (%s) at ports that answer on the segment", total(silence), outside, counted(silence))
	return pass(p.Exchanges, m, "%s", reason)
}

func total(m map[string]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}

func counted(m map[string]int) string {
	var all []string
	for _, k := range sortedKeys(m) {
		all = append(all, fmt.Sprintf("%s %d", k, m[k]))
	}
	return list(all)
}
