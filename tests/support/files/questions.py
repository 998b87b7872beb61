"""Questions about real documents: those of npm, which Node's wheel has.

Each is asked in other words than the documents use, as somebody would who does not know them, and
names the section that answers it: an option of npm's configuration, or a heading and its file.
"""

OPTIONS = {
    "access": "How do I stop everyone from seeing a package that I publish under a scope?",
    "allow-same-version": (
        "npm version fails as the new number equals the present one, how can I permit that?"
    ),
    "audit-level": (
        "From which severity of vulnerabilities on should npm audit fail with an exit code?"
    ),
    "before": "Install dependencies as they were available at a certain day in the past",
    "bin-links": (
        "How do I keep npm from creating links for executables, as my file system has none?"
    ),
    "browser": "npm should not open a website but show its url instead",
    "cafile": "Trust several certificate authorities whose certificates are in one file",
    "cidr": "Only let a token be used from certain IP ranges",
    "color": "Turn off colored output in the terminal",
    "commit-hooks": "Make a version commit without executing git hooks",
    "cpu": "Install native modules for a processor architecture that is not mine",
    "depth": "How many levels of the dependency tree does npm ls show?",
    "diff-name-only": "Only list the names of files that differ between two versions",
    "diff-ignore-all-space": "Compare two versions without regard to spaces and indentation",
    "diff-unified": "Number of unchanged lines around each difference that is printed",
    "dry-run": "See what a command would do without changing anything",
    "editor": "Which program is started to edit npm's configuration?",
    "engine-strict": "Refuse packages that are made for other versions of Node",
    "expect-result-count": "Make a query fail unless it returns exactly three results",
    "fetch-retries": (
        "How often does npm try a download from the registry again after a network error?"
    ),
    "fetch-retry-mintimeout": "Shortest pause before fetching a package is tried again",
    "fetch-timeout": "How long does npm wait for an HTTP answer before it gives up?",
    "foreground-scripts": "I want to see the output of install scripts of my dependencies",
    "format-package-lock": "Write the lock file compactly, not in a form that people read",
    "fund": "Hide the message after npm install that packages ask for money",
    "git-tag-version": "Bump the version without any git tag or commit",
    "global": "Install a package for all projects and not in the current folder",
    "globalconfig": "In which file are npm's settings for all users of the machine?",
    "https-proxy": "Send encrypted requests to the registry through our company's proxy",
    "if-present": "A script may be undefined in some packages, npm run should not fail then",
    "ignore-scripts": "Install packages without executing any script of theirs",
    "include-workspace-root": (
        "Run a command in the root project of a monorepo, too, not only in its workspaces"
    ),
    "init-license": "Which license do new packages get by default?",
    "init-version": "Which version number does a new package begin with?",
    "install-links": "Copy a local folder that I depend on instead of making a symlink to it",
    "install-strategy": (
        "Place dependencies nested within each other rather than hoisted to the top of node_modules"
    ),
    "json": "Have npm's output in a format that programs can read",
    "legacy-peer-deps": "Ignore conflicts of peer dependencies as old versions of npm did",
    "local-address": (
        "My computer has two network interfaces, which IP does npm use for the registry?"
    ),
    "logs-max": "How many debug logs does npm keep on disk?",
    "maxsockets": "Limit how many connections npm opens at the same time to a host",
    "message": "Text of the git commit that npm version makes",
    "min-release-age": "Do not install versions that were published only a few days ago",
    "node-gyp": "Use my own copy of the tool that compiles native addons",
    "node-options": "Pass flags to Node when lifecycle scripts are executed",
    "noproxy": "Which hosts does npm contact directly although a proxy is set?",
    "offline": "Install without any network, only from the cache",
    "omit": "Leave out development dependencies when installing on a server",
    "os": "Install native modules for a different operating system than mine",
    "otp": "Where do I give the code from my authenticator when I publish with two factors?",
    "pack-destination": "Into which folder does npm pack write the tarball?",
    "package-lock": "Neither read nor write a lock file",
    "package-lock-only": "Update the lock file only, without touching node_modules",
    "parseable": "Get search results as a table separated by tabs",
    "prefer-dedupe": "Reuse a version that is installed already instead of adding a newer one",
    "prefer-offline": (
        "Use cached packages even if they may be stale, and download only what is missing"
    ),
    "preid": "How do I name prereleases beta or rc when I increase the version?",
    "progress": "Do not show the bar that moves while npm works",
    "provenance": "Link a published package to the CI build that it comes from",
    "registry": "Set the address of the server that npm gets packages from",
    "replace-registry-host": (
        "The lock file names an old registry server, download from the configured one instead"
    ),
    "save": "Install a package without adding it to package.json",
    "save-dev": "Add a test tool to package.json so that it is only needed for development",
    "save-exact": "Put a fixed version into package.json, not a range",
    "save-prefix": "Use a tilde rather than a caret for the versions in package.json",
    "sbom-format": "Choose between CycloneDX and SPDX for the bill of materials",
    "script-shell": "Execute npm scripts with bash instead of cmd",
    "searchlimit": "Show at most fifty packages when I search",
    "sign-git-tag": "Use my GPG key when npm version makes a tag",
    "strict-peer-deps": "Any conflict between peer dependencies should make the install fail",
    "strict-ssl": "The registry has a self-signed certificate, do not verify it",
    "tag-version-prefix": "Leave out the v in front of version tags in git",
    "timing": "Measure how long the phases of an npm command take",
    "umask": "Permissions that files and folders get when npm creates them",
    "unicode": "Draw trees with ascii letters only",
    "update-notifier": "Stop the message that a newer npm is available",
    "userconfig": "Where is the configuration file of my own user?",
    "viewer": "Show npm's help in a web page rather than a manual page",
    "which": "A package has several funding addresses, open the second one",
    "yes": "Never ask for confirmation in npx, assume that I agree",
}

SECTIONS = [
    (
        "using-npm/registry.md",
        "### Does npm send any information about me back to the registry?",
        "Which data about my environment does npm transmit to the server?",
    ),
    (
        "using-npm/registry.md",
        "### How can I prevent my package from being published in the official registry?",
        "Make sure that a secret package is never uploaded to npmjs.com by accident",
    ),
    (
        "configuring-npm/package-json.md",
        "### files",
        "Which files end up in the tarball of a package?",
    ),
    (
        "configuring-npm/package-json.md",
        "### bin",
        "How does a package provide an executable command?",
    ),
    (
        "configuring-npm/package-json.md",
        "### overrides",
        "Force a dependency of a dependency to another version, say for a security fix",
    ),
    (
        "configuring-npm/package-json.md",
        "### peerDependencies",
        "My plugin works with certain versions of its host package, how do I declare that?",
    ),
    (
        "configuring-npm/package-json.md",
        "### optionalDependencies",
        "npm should go on if a dependency cannot be built or found",
    ),
    (
        "configuring-npm/package-json.md",
        "### engines",
        "State which versions of Node a package works on",
    ),
    (
        "configuring-npm/package-json.md",
        "#### Local Paths",
        "Depend on a directory beside my project",
    ),
    (
        "configuring-npm/package-json.md",
        "### main",
        "Which module is loaded when somebody requires my package?",
    ),
    (
        "using-npm/scripts.md",
        "#### current lifecycle event",
        "How does a script find out which stage of the lifecycle is being executed?",
    ),
    (
        "using-npm/scripts.md",
        "### Working Directory for Scripts",
        "From which folder are npm scripts started?",
    ),
    (
        "using-npm/developers.md",
        "### Keeping files *out* of your Package",
        "Exclude tests and temporary files from the published package",
    ),
    (
        "using-npm/developers.md",
        "### Link Packages",
        "Try a package that I am developing in another project without publishing it",
    ),
    (
        "using-npm/removal.md",
        "### More Severe Uninstalling",
        "Delete every trace of npm from my computer",
    ),
    (
        "configuring-npm/folders.md",
        "#### Man Pages",
        "Where are manuals installed when a package is global?",
    ),
    (
        "configuring-npm/folders.md",
        "#### Cycles, Conflicts, and Folder Parsimony",
        "What happens when two packages depend on each other?",
    ),
    (
        "using-npm/workspaces.md",
        "### Defining workspaces",
        "Declare several packages within one repository in package.json",
    ),
    (
        "using-npm/scope.md",
        "### Associating a scope with a registry",
        "Get packages of our scope from a private registry and all others from the public one",
    ),
    (
        "configuring-npm/npmrc.md",
        "### Auth related configuration",
        "Limit an auth token to one registry, so that no other host gets it",
    ),
    (
        "using-npm/logging.md",
        "### Logs and Sensitive Information",
        "Do passwords and tokens show up in log files?",
    ),
    (
        "using-npm/logging.md",
        "### Setting Log Levels",
        "Make npm print less, or more, to the terminal",
    ),
    (
        "configuring-npm/package-lock-json.md",
        "### Hidden Lockfiles",
        "Why is there a lock file within the node_modules folder?",
    ),
    (
        "configuring-npm/package-lock-json.md",
        "### Handling Old Lockfiles",
        "What does npm 7 do with lock files of npm 6?",
    ),
]
