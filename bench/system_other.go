//go:build !unix

package bench

import "io/fs"

func diskBytes(info fs.FileInfo) int64 { return info.Size() }

func raiseFileLimit(uint64) error { return nil }
