package recipe

import "strings"

// Balance is a service's place on the guide's axis 負荷分散軸.
type Balance string

// The patterns of the balance axis.
const (
	Singleton Balance = "singleton" // シングルトン: replicated, one replica
	Scalable  Balance = "scalable"  // スケーラブル: replicated, more than one
	Global    Balance = "global"    // グローバル: one task on each host
)

// VolumePattern is a service's place on the guide's axis ボリューム軸.
type VolumePattern string

// The patterns of the volume axis.
const (
	Stateless     VolumePattern = "stateless" // ステートレス: no volume
	ServiceVolume VolumePattern = "service"   // サービス固有: one volume that follows the service
	HostVolume    VolumePattern = "host"      // ホスト固有: each host has its own
	SharedVolume  VolumePattern = "shared"    // 共有: all tasks see the same
)

// Publish is a service's place on the guide's axis 公開軸.
type Publish string

// The patterns of the publish axis.
const (
	Internal  Publish = "internal"   // 内部サービス: no published port
	Mesh      Publish = "mesh"       // メッシュルーティング: ingress
	OneToOne  Publish = "one-to-one" // 一対一ルーティング: host mode on a global service
	VirtualIP Publish = "virtual-ip" // 仮想IP: host mode on a replicated service
)

// Axes is a service's place on the three axes.
type Axes struct {
	Balance Balance
	Volume  VolumePattern
	Publish Publish
}

// Classify places a service on the axes by what its definition says, also where
// the guide forbids the combination. siteHosts is the number of hosts that hold
// containers: on a site of one, a singleton's bind and plain volumes are
// ServiceVolume (the exception in the guide's section サービス固有); 0 stands for
// an unknown number and is taken for several.
//
// The guide wants one pattern for all volumes of a service and for all its ports.
// Where a service mixes them, the one that says most decides: ServiceVolume before
// SharedVolume before HostVolume, and Mesh before the host-mode patterns.
//
// While a value that matters is an unresolved template (Unresolved.Needed) the
// result is that of its default.
func Classify(s *Service, siteHosts int) Axes {
	a := Axes{Balance: Singleton, Volume: Stateless, Publish: Internal}
	switch {
	case s.Mode == ModeGlobal:
		a.Balance = Global
	case s.Replicas > 1:
		a.Balance = Scalable
	}
	rank := map[VolumePattern]int{Stateless: 0, HostVolume: 1, SharedVolume: 2, ServiceVolume: 3}
	for _, v := range s.Volumes {
		if p := v.pattern(a.Balance, siteHosts); rank[p] > rank[a.Volume] {
			a.Volume = p
		}
	}
	for _, p := range s.Ports {
		switch {
		case p.Mode == Ingress:
			a.Publish = Mesh
			return a
		case a.Balance == Global:
			a.Publish = OneToOne
		default:
			a.Publish = VirtualIP
		}
	}
	return a
}

// pattern is the volume's own; a tmpfs does not count as a volume.
func (v *Volume) pattern(balance Balance, siteHosts int) VolumePattern {
	switch {
	case v.Type == TypeTmpfs:
		return Stateless
	case v.DRBD != nil:
		return ServiceVolume
	case balance == Singleton && (v.NFS != nil || v.Driver != ""):
		return ServiceVolume
	case v.NFS != nil || v.isPreparedNFS():
		return SharedVolume
	case balance == Singleton && siteHosts == 1:
		return ServiceVolume
	default:
		return HostVolume
	}
}

// isPreparedNFS reports whether the volume's driver mounts a share: the local
// driver with type nfs (hive-builder's docs/nfs.rst), or a driver that is not the
// engine's own. The local driver with anything else makes a volume on each host.
func (v *Volume) isPreparedNFS() bool {
	typ, _ := v.DriverOpts.Get("type")
	return v.Driver != "" && (v.Driver != "local" || strings.HasPrefix(typ, "nfs"))
}
