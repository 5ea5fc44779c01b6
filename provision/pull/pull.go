// Package pull brings container images from registries to this machine, for hosts
// that reach none themselves.
package pull

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Image makes sure that a directory has the archive, in docker-load format, of what
// a tag names now, and returns its path. The registry is asked each time; what
// it names is fetched once. Credentials are those of the user's Docker configuration.
func Image(ctx context.Context, tag, dir string) (archive string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("pull %s: %w", tag, err)
		}
	}()
	ref, err := name.ParseReference(tag)
	if err != nil {
		return "", err
	}
	img, err := remote.Image(ref, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain),
		remote.WithPlatform(v1.Platform{OS: "linux", Architecture: "amd64"}))
	if err != nil {
		return "", err
	}
	digest, err := img.Digest()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	// The archive says which tag it is, so one content under two tags is two archives.
	archive = filepath.Join(dir, digest.Hex[:16]+"-"+filepath.Base(ref.Context().RepositoryStr())+"-"+ref.Identifier()+".tar")
	if _, err := os.Stat(archive); err == nil {
		return archive, nil
	}
	temp, err := os.CreateTemp(dir, "*.part")
	if err != nil {
		return "", err
	}
	err = errors.Join(tarball.Write(ref, img, temp), temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), archive)
	}
	if err != nil {
		return "", errors.Join(err, os.Remove(temp.Name()))
	}
	return archive, nil
}
