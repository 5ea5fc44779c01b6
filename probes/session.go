package probes

import (
	"fmt"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"

	"github.com/hiveproof/hiveproof/reports"
)

const (
	// minSessions and minVisits are what a claim about sessions needs: two visitors,
	// each with more visits than a small site has containers, so that one who is sent
	// on in turn cannot meet the same container each time.
	minSessions, minVisits = 2, 6
	// minDoorVisits is how often a session must have come through a balancer.
	minDoorVisits = 2
)

func visitSample(v Visit, counter bool) reports.Sample {
	s := reports.Sample{
		Time: v.Start, Client: v.Client.Name, Target: fmt.Sprintf("%s %s%s", v.Door.Name, v.Door.Addr, v.Path),
		Outcome: string(v.Outcome), RTTms: float64(v.RTT.Microseconds()) / 1000, Counter: counter, Server: v.Err,
	}
	if v.Client.Addr.IsValid() {
		s.Client += " " + v.Client.Addr.String()
	}
	if v.Answer != nil {
		s.Server = fmt.Sprintf("%s on %s, request %d of session %s", shortTask(v.Answer.Task), v.Answer.Node, v.Answer.Visits, v.Session)
		if v.Answer.Source.IsValid() {
			s.Seen = v.Answer.Source.String()
		}
	}
	return s
}

func visitSamples(all []Visit, counter bool) []reports.Sample {
	var samples []reports.Sample
	for _, v := range all[:min(len(all), maxSamples)] {
		samples = append(samples, visitSample(v, counter))
	}
	return samples
}

func failVisits(against []Visit, measurements map[string]any, format string, args ...any) Judgement {
	return Judgement{reports.Fail, fmt.Sprintf(format, args...), measurements, visitSamples(against, true)}
}

func invalidVisits(all []Visit, measurements map[string]any, format string, args ...any) Judgement {
	return Judgement{reports.Invalid, fmt.Sprintf(format, args...), measurements, visitSamples(all, false)}
}

func passVisits(all []Visit, measurements map[string]any, format string, args ...any) Judgement {
	return Judgement{reports.Pass, fmt.Sprintf(format, args...), measurements, visitSamples(all, false)}
}

// served are the visits that got the agent's answer.
func served(all []Visit) []Visit {
	return slices.DeleteFunc(slices.Clone(all), func(v Visit) bool { return v.Outcome != Answered || v.Answer == nil })
}

// unserved says how many visits got none, as a sentence with one of them; empty if all did.
func unserved(all []Visit) string {
	for _, v := range all {
		if v.Outcome != Answered || v.Answer == nil {
			return fmt.Sprintf("%d of %d visits were not answered: %s through %s: %s %s", len(all)-len(served(all)), len(all), v.Client.Name, v.Door.Name, v.Outcome, v.Err)
		}
	}
	return ""
}

// session is one visitor's visits, in the order of time.
type session struct {
	name   string
	visits []Visit
}

func (s session) tasks() map[string]int {
	n := map[string]int{}
	for _, v := range s.visits {
		n[v.Answer.Task]++
	}
	return n
}

// sessionsOf sorts answered visits into sessions, by name.
func sessionsOf(all []Visit) []session {
	byName := map[string][]Visit{}
	for _, v := range served(all) {
		byName[v.Client.Name+" "+v.Session] = append(byName[v.Client.Name+" "+v.Session], v)
	}
	var sessions []session
	for _, name := range sortedKeys(byName) {
		visits := byName[name]
		slices.SortStableFunc(visits, func(a, b Visit) int { return a.Start.Compare(b.Start) })
		sessions = append(sessions, session{name, visits})
	}
	return sessions
}

// sessionMeasurements are which containers served each session, and how often.
func sessionMeasurements(all []Visit, sessions []session, tasks []string) map[string]any {
	by := map[string]map[string]int{}
	for _, s := range sessions {
		by[s.name] = s.tasks()
	}
	return map[string]any{"visits": len(all), "replicas": len(tasks), "visits_by_session_and_task": by}
}

// notTheAgent says that a server answered which does not say who it is; empty if none did.
func notTheAgent(all []Visit) string {
	for _, v := range all {
		if v.Outcome == Answered && v.Answer == nil {
			return fmt.Sprintf("this needs the agent's answers, and what answered %s through %s is not the agent", v.Client.Name, v.Door.Name)
		}
	}
	return ""
}

// sessionDoubt says why visits cannot be judged at all, not even against the
// claim; empty if they can.
func sessionDoubt(all []Visit, tasks []string) string {
	if len(all) == 0 {
		return "nobody visited"
	}
	if n := len(slices.Compact(slices.Sorted(slices.Values(tasks)))); n < 2 {
		return fmt.Sprintf("%d task(s) run: a session has nowhere else to go", n)
	}
	for _, v := range served(all) {
		if !slices.Contains(tasks, v.Answer.Task) {
			return fmt.Sprintf("task %s answered, which is none of the service's running tasks: the site changed while it was observed", shortTask(v.Answer.Task))
		}
		if v.Answer.Visits < 1 {
			return fmt.Sprintf("task %s does not count the visits of a session", shortTask(v.Answer.Task))
		}
	}
	return notTheAgent(all)
}

// fewSessions says why there are too few visits to judge sessions by; empty if there are enough.
func fewSessions(all []Visit, sessions []session) string {
	if len(sessions) < minSessions {
		return fmt.Sprintf("%d session(s) were served, %d are needed", len(sessions), minSessions)
	}
	for _, s := range sessions {
		if len(s.visits) < minVisits {
			return fmt.Sprintf("session %s has %d answered visits, %d are needed", s.name, len(s.visits), minVisits)
		}
	}
	return unserved(all)
}

// NotSticky checks mesh/not-sticky: a session that is kept in one container's
// memory does not survive the mesh, for its visits are spread over the containers.
// tasks are the IDs of those that run.
func NotSticky(visits []Visit, tasks []string) Judgement {
	sessions := sessionsOf(visits)
	m := sessionMeasurements(visits, sessions, tasks)
	if why := sessionDoubt(visits, tasks); why != "" {
		return invalidVisits(visits, m, "%s", why)
	}
	lost, total := 0, 0
	for _, s := range sessions {
		if len(s.tasks()) == 1 && len(s.visits) >= minVisits {
			return failVisits(s.visits, m, "session %s stayed with one container for all its %d visits, although %d run", s.name, len(s.visits), len(tasks))
		}
		for i, v := range s.visits {
			total++
			if v.Answer.Visits < i+1 {
				lost++
			}
		}
	}
	m["visits_without_memory"] = lost
	if why := fewSessions(visits, sessions); why != "" {
		return invalidVisits(visits, m, "%s", why)
	}
	for _, s := range sessions {
		for _, v := range s.visits {
			if v.Answer.Session != s.visits[0].Answer.Session {
				return invalidVisits([]Visit{s.visits[0], v}, m, "session %s did not last: its visitor was given a new one, so nothing could be remembered", s.name)
			}
		}
	}
	if lost == 0 {
		return invalidVisits(visits, m, "the sessions met several containers, and yet none had lost their memory: they share it, so this shows nothing")
	}
	return passVisits(sessions[0].visits, m, "each of %d sessions was served by several of %d containers: %d of %d visits met one that did not know all of the session",
		len(sessions), len(tasks), lost, total)
}

// Sticky checks lb/sticky: all visits of a session are served by one container,
// whose memory has counted each of them.
func Sticky(visits []Visit, tasks []string) Judgement {
	sessions := sessionsOf(visits)
	m := sessionMeasurements(visits, sessions, tasks)
	if why := sessionDoubt(visits, tasks); why != "" {
		return invalidVisits(visits, m, "%s", why)
	}
	used := map[string]bool{}
	for _, s := range sessions {
		for i, v := range s.visits {
			used[v.Answer.Task] = true
			if i == 0 {
				continue
			}
			before := s.visits[i-1]
			if v.Answer.Task != before.Answer.Task {
				return failVisits([]Visit{before, v}, m, "session %s went from task %s on %s (through %s) to task %s on %s (through %s)", s.name,
					shortTask(before.Answer.Task), before.Answer.Node, before.Door.Name, shortTask(v.Answer.Task), v.Answer.Node, v.Door.Name)
			}
			if v.Answer.Visits <= before.Answer.Visits {
				return failVisits([]Visit{before, v}, m, "session %s: task %s on %s counted request %d after %d: it does not keep the session",
					s.name, shortTask(v.Answer.Task), v.Answer.Node, v.Answer.Visits, before.Answer.Visits)
			}
		}
	}
	if why := fewSessions(visits, sessions); why != "" {
		return invalidVisits(visits, m, "%s", why)
	}
	// A count that runs ahead is no lost memory, but somebody else's visits are in it.
	for _, s := range sessions {
		if first := s.visits[0]; first.Answer.Visits != 1 {
			return invalidVisits([]Visit{first}, m, "session %s began with request %d: it was known before its first visit", s.name, first.Answer.Visits)
		}
		for i, v := range s.visits[1:] {
			if before := s.visits[i]; v.Answer.Visits > before.Answer.Visits+1 {
				return invalidVisits([]Visit{before, v}, m, "session %s: task %s on %s counted request %d after %d: it was asked by more than the visitor",
					s.name, shortTask(v.Answer.Task), v.Answer.Node, v.Answer.Visits, before.Answer.Visits)
			}
		}
	}
	if len(used) < 2 {
		return invalidVisits(visits, m, "all %d sessions went to one container: that they stay there was not put to the test", len(sessions))
	}
	return passVisits(representativeVisits(sessions), m, "each of %d sessions was served by one container, over %d visits on connections of their own; %d of %d containers were in use",
		len(sessions), len(visits), len(used), len(tasks))
}

// representativeVisits are the first and last of each session.
func representativeVisits(sessions []session) []Visit {
	var all []Visit
	for _, s := range sessions {
		all = append(all, s.visits[0], s.visits[len(s.visits)-1])
	}
	return all
}

// StickyAnyDoor checks lb/sticky-any-door: what Sticky does, of sessions each of
// which came through the balancer of every host.
func StickyAnyDoor(visits []Visit, doors []Door, tasks []string) Judgement {
	j := Sticky(visits, tasks)
	if j.Verdict != reports.Pass {
		return j
	}
	hosts := map[string]bool{}
	for _, d := range doors {
		hosts[d.Host] = true
	}
	if len(hosts) < 2 {
		return invalidVisits(visits, j.Measurements, "%d host(s) have a balancer: there is no other door", len(hosts))
	}
	for _, s := range sessionsOf(visits) {
		through := map[string]int{}
		for _, v := range s.visits {
			through[v.Door.Host]++
		}
		for _, h := range sortedKeys(hosts) {
			if through[h] < minDoorVisits {
				return invalidVisits(s.visits, j.Measurements, "session %s came through the balancer on %s %d time(s), %d are needed", s.name, h, through[h], minDoorVisits)
			}
		}
	}
	j.Reason += fmt.Sprintf(", whichever of the balancers on %s they came through", list(sortedKeys(hosts)))
	return j
}

// minForwarded is how many answered visits of each client through each door a claim
// about what a load balancer passes on needs: as many as minAnswers of a port.
const minForwarded = minAnswers

// balancerDoubt says why visits cannot be judged at all, not even against the
// claim; empty if they can.
func balancerDoubt(all []Visit) string {
	if len(all) == 0 {
		return "nobody visited"
	}
	for _, v := range served(all) {
		if !v.Client.Addr.IsValid() {
			return fmt.Sprintf("the address of client %s is not known", v.Client.Name)
		}
	}
	return notTheAgent(all)
}

// unmade says how many visits say nothing about the site, with one of them; empty if none.
func unmade(all []Visit) string {
	bad := slices.DeleteFunc(slices.Clone(all), func(v Visit) bool { return v.Outcome != Aborted && v.Outcome != Failed })
	if len(bad) == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d visits could not be made: %s through %s: %s %s", len(bad), len(all), bad[0].Client.Name, bad[0].Door.Name, bad[0].Outcome, bad[0].Err)
}

// fewVisits says why there are too few to judge a load balancer by.
func fewVisits(all []Visit) string {
	if why := unmade(all); why != "" {
		return why
	}
	clients, doors, answers := map[string]bool{}, map[string]bool{}, map[[2]string]int{}
	for _, v := range all {
		clients[v.Client.Name], doors[v.Door.Name] = true, true
	}
	for _, v := range served(all) {
		answers[[2]string{v.Client.Name, v.Door.Name}]++
	}
	for _, c := range sortedKeys(clients) {
		for _, d := range sortedKeys(doors) {
			if n := answers[[2]string{c, d}]; n < minForwarded {
				return strings.TrimSuffix(fmt.Sprintf("%d answered visit(s) of %s through %s, %d are needed; %s", n, c, d, minForwarded, unserved(all)), "; ")
			}
		}
	}
	return ""
}

// ForwardedFor checks lb/forwarded-for: the last address in X-Forwarded-For, which
// is the one that the balancer before the container entered, is the client's. What
// stands before it a client may have made up.
func ForwardedFor(visits []Visit) Judgement {
	if why := balancerDoubt(visits); why != "" {
		return invalidVisits(visits, map[string]any{"visits": len(visits)}, "%s", why)
	}
	var against []Visit
	protos, seen := map[string]int{}, map[string]int{}
	for _, v := range served(visits) {
		header := textproto.MIMEHeader(v.Answer.Header)
		protos[v.Door.Name+" "+header.Get("X-Forwarded-Proto")]++
		last := lastForwarded(header)
		seen[last]++
		if a, err := netip.ParseAddr(last); err != nil || a.Unmap() != v.Client.Addr {
			against = append(against, v)
		}
	}
	m := map[string]any{"visits": len(visits), "forwarded_for": seen, "forwarded_proto": protos}
	if len(against) > 0 {
		v := against[0]
		return failVisits(against, m, "in %d of %d answered visits the client is not the last address in X-Forwarded-For: %s %s through %s: %q",
			len(against), len(served(visits)), v.Client.Name, v.Client.Addr, v.Door.Name, strings.Join(textproto.MIMEHeader(v.Answer.Header).Values("X-Forwarded-For"), ", "))
	}
	if why := fewVisits(visits); why != "" {
		return invalidVisits(visits, m, "%s", why)
	}
	return passVisits(served(visits), m, "in all %d answered visits the last address in X-Forwarded-For is the client's own", len(served(visits)))
}

func lastForwarded(h textproto.MIMEHeader) string {
	words := strings.Split(strings.Join(h.Values("X-Forwarded-For"), ","), ",")
	return strings.TrimSpace(words[len(words)-1])
}

// SourceIsLB checks lb/source-is-lb: the address that the container sees is one of
// the expected ones and never the client's. guide is a sentence on what the guide
// says of it, for the reason.
func SourceIsLB(visits []Visit, expected []Labelled, guide string) Judgement {
	if why := balancerDoubt(visits); why != "" {
		return invalidVisits(visits, map[string]any{"visits": len(visits)}, "%s", why)
	}
	counts := map[string]int{}
	var against []Visit
	for _, v := range served(visits) {
		source := v.Answer.Source.Addr()
		if !source.IsValid() {
			return invalidVisits([]Visit{v}, map[string]any{"visits": len(visits)}, "task %s does not say from which address it was asked", shortTask(v.Answer.Task))
		}
		i := slices.IndexFunc(expected, func(l Labelled) bool { return l.Addr == source })
		if i < 0 || source == v.Client.Addr {
			against = append(against, v)
			counts["unexpected: "+source.String()]++
			continue
		}
		counts[expected[i].What+" "+source.String()]++
	}
	m := map[string]any{"visits": len(visits), "sources_seen": counts}
	switch {
	case len(expected) == 0:
		return invalidVisits(visits, m, "it is not known which addresses the balancer has")
	case len(against) > 0:
		v := against[0]
		return failVisits(against, m, "in %d of %d answered visits the container saw another address than the balancer's: %s %s through %s was seen as %s",
			len(against), len(served(visits)), v.Client.Name, v.Client.Addr, v.Door.Name, v.Answer.Source.Addr())
	}
	if why := fewVisits(visits); why != "" {
		return invalidVisits(visits, m, "%s", why)
	}
	var each []string
	for _, what := range sortedKeys(counts) {
		each = append(each, fmt.Sprintf("%s (%d)", what, counts[what]))
	}
	reason := fmt.Sprintf("in all %d answered visits the container saw: %s", len(served(visits)), strings.Join(each, ", "))
	if guide != "" {
		reason += "; " + guide
	}
	return passVisits(served(visits), m, "%s", reason)
}

// ReloadInPlace checks lb/reload-in-place: after a change of configuration and
// certificate on the hosts' volumes every door serves the new ones, and the
// service's tasks are the same as before.
func ReloadInPlace(r Reload) Judgement {
	marked := func(v Visit) bool {
		return slices.Contains(textproto.MIMEHeader(v.Header).Values(ConfigHeader), r.Marker)
	}
	m := map[string]any{"tasks_before": r.TasksBefore, "tasks_after": r.TasksAfter, "marker": r.Marker, "certificate": r.Certificate}
	if len(r.Before) == 0 || len(r.TasksBefore) == 0 || r.Marker == "" {
		return invalidVisits(r.Before, m, "nothing was seen before the change")
	}
	if why := unmade(append(slices.Clone(r.Before), r.After...)); why != "" {
		return invalidVisits(r.Before, m, "%s", why)
	}
	doors, after := map[string]bool{}, map[string]bool{}
	secure := false
	for _, v := range r.Before {
		doors[v.Door.Name] = true
		secure = secure || v.Door.TLS
		switch {
		case v.Outcome != Answered:
			return invalidVisits([]Visit{v}, m, "%s did not answer before the change either: %s %s", v.Door.Name, v.Outcome, v.Err)
		case marked(v) || r.Certificate != "" && v.Certificate == r.Certificate:
			return invalidVisits([]Visit{v}, m, "%s served the new configuration or certificate before it was made", v.Door.Name)
		}
	}
	if secure && r.Certificate == "" {
		return invalidVisits(r.Before, m, "which certificate is new is not known")
	}
	for _, v := range r.After {
		switch {
		case v.Outcome != Answered:
			return failVisits([]Visit{v}, m, "after the change %s does not answer: %s %s", v.Door.Name, v.Outcome, v.Err)
		case !marked(v):
			return failVisits([]Visit{v}, m, "after the change %s still serves the old configuration", v.Door.Name)
		case v.Door.TLS && v.Certificate != r.Certificate:
			return failVisits([]Visit{v}, m, "after the change %s still shows the old certificate (%s)", v.Door.Name, v.Certificate)
		}
		after[v.Door.Name] = true
	}
	for _, d := range sortedKeys(doors) {
		if !after[d] {
			return invalidVisits(r.After, m, "%s was not asked after the change", d)
		}
	}
	before, now := slices.Compact(slices.Sorted(slices.Values(r.TasksBefore))), slices.Compact(slices.Sorted(slices.Values(r.TasksAfter)))
	switch {
	case len(now) == 0:
		return invalidVisits(r.After, m, "no task was seen to run after the change, though the doors answer")
	case !slices.Equal(before, now):
		return failVisits(r.After, m, "the service was restarted: its tasks were %s and are %s", list(before), list(now))
	case !secure:
		return passVisits(r.After, m, "through all %d doors the new configuration was served, by the same %d tasks as before; none speaks TLS, so the certificate was not put to the test", len(after), len(before))
	}
	return passVisits(r.After, m, "through all %d doors the new configuration and certificate were served, by the same %d tasks as before", len(after), len(before))
}
