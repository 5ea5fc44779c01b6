package lint

import (
	"fmt"
	"strings"

	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

// kind names a volume in messages.
func (v *volume) kind() string {
	switch {
	case v.built.DRBD != nil:
		return "DRBD volume"
	case v.built.NFS != nil:
		return "NFS volume"
	case v.built.Driver != "":
		return fmt.Sprintf("volume of driver %s", v.built.Driver)
	case v.Type == recipe.TypeBind:
		return "bind volume"
	default:
		return "plain volume"
	}
}

// says is where the file says what kind of volume it is.
func (v *volume) says() recipe.Position {
	switch {
	case v.DRBD != nil:
		return v.At("drbd")
	case v.NFS != nil:
		return v.At("nfs")
	case v.Driver != "":
		return v.ValueAt("driver")
	case v.Has("type"):
		return v.ValueAt("type")
	default:
		return v.ValueAt("source")
	}
}

// volumeType is HP007. The guide's section ホスト固有 has type: volume(デフォルト).
func volumeType(_ *site, s *service) []remark {
	var out []remark
	for i := range s.volumes {
		v := &s.volumes[i]
		if v.Has("type") {
			continue
		}
		out = append(out, remark{v.Position, fmt.Sprintf(
			"this volume has no type: the guide says that volume is the default, hive-builder's inventory page says bind; write type: %s", v.Type)})
	}
	return out
}

// serviceVolume is HP101, from the guide's table of balance and volume patterns.
func serviceVolume(_ *site, s *service) []remark {
	if !s.is(recipe.Scalable, recipe.Global) {
		return nil
	}
	var out []remark
	for i := range s.volumes {
		v := &s.volumes[i]
		if !v.is(recipe.ServiceVolume) {
			continue
		}
		instead := "share it over nfs (共有)"
		if s.is(recipe.Global) {
			instead += ", give each host its own (ホスト固有)"
		}
		out = append(out, remark{v.says(), fmt.Sprintf(
			"the guide has a service volume (サービス固有) for a singleton only, its one writer, and this %s is on a %s service; %s, or run one replica",
			v.kind(), s.balance(), instead)})
	}
	return out
}

// balance names the service's place on the balance axis in messages.
func (s *service) balance() string {
	if len(s.balances) == 1 {
		return string(s.balances[0])
	}
	return "replicated"
}

// hostVolume is HP102, from the guide's table of balance and volume patterns with
// the exception of its section サービス固有 for sites of one host.
func hostVolume(x *site, s *service) []remark {
	if !s.is(recipe.Singleton, recipe.Scalable) || x.hosts == 1 {
		return nil
	}
	why, instead := "its data stay behind when the task moves to another host", "drbd or nfs (サービス固有)"
	if s.is(recipe.Scalable) {
		why, instead = "each replica sees what its own host holds", "nfs (共有)"
	}
	var out []remark
	for i := range s.volumes {
		v := &s.volumes[i]
		if v.is(recipe.HostVolume) {
			out = append(out, remark{v.says(), fmt.Sprintf(
				"the guide has a host volume (ホスト固有) for a global service only, and this %s is on a %s service: %s; write %s, or mode: global",
				v.kind(), s.balance(), why, instead)})
		}
	}
	return out
}

// shareKeys are the names of what an NFS volume mounts: the volume, and of a
// prepared one the export. Two volumes that have one in common hold the same data.
func shareKeys(v *volume) []string {
	typ, _ := v.built.DriverOpts.Get("type")
	if v.built.NFS == nil && !strings.HasPrefix(typ, "nfs") || v.Source == "" {
		return nil
	}
	keys := []string{"volume " + v.Source}
	device, _ := v.built.DriverOpts.Get("device")
	options, _ := v.built.DriverOpts.Get("o")
	for option := range strings.SplitSeq(options, ",") {
		if address, ok := strings.CutPrefix(option, "addr="); ok && device != "" {
			keys = append(keys, "export "+address+device)
		}
	}
	return keys
}

// sharedVolume is HP103, from the guide's table of balance and volume patterns.
// An NFS volume that only a singleton mounts is its service volume.
func sharedVolume(x *site, s *service) []remark {
	if !s.is(recipe.Singleton) {
		return nil
	}
	var out []remark
	for i := range s.volumes {
		v := &s.volumes[i]
		if other := x.sharer(s, v); other != nil {
			out = append(out, remark{v.ValueAt("source"), fmt.Sprintf(
				"the guide has a shared volume (共有) for the containers of one scalable or global service, and this singleton's %s is mounted by %s as well (%s); give the singleton a volume of its own, or let one service hold the data and serve the other",
				v.kind(), other.service.Name, other.volume.Position)})
		}
	}
	return out
}

// sharer finds another service that mounts what v does.
func (x *site) sharer(s *service, v *volume) *mount {
	for _, key := range shareKeys(v) {
		for i, m := range x.shares[key] {
			if m.service != s && meet(m.service, s) {
				return &x.shares[key][i]
			}
			if i == maxRivals {
				break
			}
		}
	}
	return nil
}

// mixedVolumes is HP104, from the warning at the head of the guide's chapter.
func mixedVolumes(_ *site, s *service) []remark {
	var first *volume
	for i := range s.volumes {
		v := &s.volumes[i]
		switch {
		case len(v.patterns) != 1 || v.is(recipe.Stateless):
		case first == nil:
			first = v
		case !v.is(first.patterns[0]):
			return remarkf(v.says(),
				"the guide wants one pattern for all volumes of a service, and this %s is %s while the one in line %d is %s; use one pattern for both, or split the service",
				v.kind(), v.patterns[0], first.Position.Line, first.patterns[0])
		}
	}
	return nil
}

// ext4 is HP106. The guide's section サービス固有 promises the copy, and that
// lost+found defeats it is said in hive-builder's docs/inventory.rst. What an image
// holds is not said in a definition, so every such volume is meant.
func ext4(_ *site, s *service) []remark {
	var out []remark
	for i := range s.volumes {
		v := &s.volumes[i]
		if d := v.DRBD; d != nil && v.built.DRBD != nil && d.Known("fstype") && d.FSType == "ext4" {
			out = append(out, remark{d.ValueAt("fstype"),
				"the guide promises that a new volume gets the image's content, and ext4 is never empty: its lost+found defeats that copy; write fstype: xfs with more than 100M, or ignore this with a reason if the image holds nothing there"})
		}
	}
	return out
}

const smallest = 100 << 20 // bytes; see smallXFS

// smallXFS is HP107, from the advice on fstype in hive-builder's docs/inventory.rst.
func smallXFS(_ *site, s *service) []remark {
	var out []remark
	for i := range s.volumes {
		v := &s.volumes[i]
		d := v.DRBD
		if d == nil || v.built.DRBD == nil || d.FSType != "xfs" || !d.Known("fstype") || !d.Known("size") || d.Bytes > smallest {
			continue
		}
		out = append(out, remark{d.ValueAt("size"), fmt.Sprintf(
			"hive-builder advises against xfs at 100M or less, where it wastes space and may fail to be made, and this volume has %s; write a larger size such as the guide's 500M, or ext4 if the image holds nothing there", d.Size)})
	}
	return out
}
