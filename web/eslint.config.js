import js from "@eslint/js";
import globals from "globals";

const firestore = {
  group: ["firebase/firestore", "firebase/firestore/*"],
  message: "Only src/queries/ knows Firestore.",
};

export default [
  { ignores: ["dist/"] },
  js.configs.recommended,
  {
    rules: {
      eqeqeq: "error",
      "no-console": "error",
      "no-var": "error",
      "prefer-const": "error",
    },
  },
  {
    files: ["src/**"],
    languageOptions: { globals: globals.browser },
    rules: { "no-restricted-imports": ["error", { patterns: [firestore] }] },
  },
  { files: ["src/queries/**"], rules: { "no-restricted-imports": "off" } },
  { files: ["tests/**"], languageOptions: { globals: globals.node } },
];
