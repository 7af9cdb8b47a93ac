/** Style sheets are imported for their effect: esbuild puts them into the program's one .css file. */
declare module "*.css";
